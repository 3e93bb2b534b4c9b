-- Replaces the owner's record in flight with a tombstone. No row: the record is not the owner's, or not in flight.
UPDATE public.idem_record SET
    state = 'r',
    fingerprint = pg_catalog.decode('0000000000000000000000000000000000000000000000000000000000000000', 'hex'),
    -- After a takeover the attempt number is kept for as long as the record would have been.
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
