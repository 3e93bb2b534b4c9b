-- Why a completion was not written: whose the record is, how it ended, and whether with this very answer.
SELECT
    version, owner = $2, state, expires_at <= pg_catalog.clock_timestamp(),
    state = $3 AND codec IS NOT DISTINCT FROM $4 AND schema IS NOT DISTINCT FROM $5 AND body IS NOT DISTINCT FROM $6
FROM public.idem_record
WHERE key = $1
