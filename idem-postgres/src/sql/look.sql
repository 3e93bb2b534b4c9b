-- The record of a key, and the time before and after it was looked for. Locks nothing.
SELECT ROW(
    pg_catalog.statement_timestamp(), pg_catalog.clock_timestamp(),
    version, state, owner, fence, attempt, fingerprint, expires_at,
    lease_until, lease, record_ttl, completed_at, codec, schema, body)
FROM public.idem_record
WHERE key OPERATOR(pg_catalog.=) $1
