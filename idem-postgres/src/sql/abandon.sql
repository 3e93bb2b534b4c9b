-- Lets the next caller in. No row: it is not the owner's, or not in flight, or abandoned already.
UPDATE public.idem_record SET
    state = 'a',
    expires_at = pg_catalog.clock_timestamp() + record_ttl,
    sweep_after = CASE
        WHEN sweep_after BETWEEN pg_catalog.clock_timestamp() + record_ttl - INTERVAL '1 hour'
            AND pg_catalog.clock_timestamp() + record_ttl
        THEN sweep_after
        ELSE pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp() + record_ttl, 'UTC')
    END
WHERE key = $1 AND owner = $2 AND version = 1 AND state = 'i' AND expires_at > pg_catalog.clock_timestamp()
RETURNING 1
