-- Lets the next caller take the key over. No row: the record is not the owner's, or not in flight, or already abandoned.
UPDATE public.idem_record SET
    state = 'a',
    expires_at = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) record_ttl,
    sweep_after = CASE
        WHEN sweep_after OPERATOR(pg_catalog.<=) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) record_ttl)
            AND sweep_after OPERATOR(pg_catalog.+) INTERVAL '1 hour'
                OPERATOR(pg_catalog.>=) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) record_ttl)
        THEN sweep_after
        ELSE pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) record_ttl, 'UTC')
    END
WHERE key OPERATOR(pg_catalog.=) $1 AND owner OPERATOR(pg_catalog.=) $2
    AND version OPERATOR(pg_catalog.=) 1 AND state OPERATOR(pg_catalog.=) 'i'
    AND expires_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
RETURNING 1
