-- Puts a tombstone in the place of the owner's record in flight. No row: it is not the owner's, or not in flight.
UPDATE public.idem_record SET
    state = 'r',
    fingerprint = pg_catalog.decode('0000000000000000000000000000000000000000000000000000000000000000', 'hex'),
    -- The number of a run that was taken over is remembered for as long as its record would have been.
    expires_at = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) CASE
        WHEN attempt OPERATOR(pg_catalog.>) 1 THEN GREATEST(lease, $3, record_ttl)
        ELSE GREATEST(lease, $3)
    END,
    sweep_after = pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) CASE
        WHEN attempt OPERATOR(pg_catalog.>) 1 THEN GREATEST(lease, $3, record_ttl)
        ELSE GREATEST(lease, $3)
    END, 'UTC'),
    lease_until = NULL, lease = NULL, record_ttl = NULL
WHERE key OPERATOR(pg_catalog.=) $1 AND owner OPERATOR(pg_catalog.=) $2 AND version OPERATOR(pg_catalog.=) 1
    AND (state OPERATOR(pg_catalog.=) 'i' OR state OPERATOR(pg_catalog.=) 'a')
    AND expires_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
RETURNING 1
