-- Puts a tombstone in the place of the owner's record in flight. No row: it is not the owner's, or not in flight.
UPDATE public.idem_record SET
    state = 'r',
    fingerprint = '\x0000000000000000000000000000000000000000000000000000000000000000',
    -- The number of a run that was taken over is remembered for as long as its record would have been.
    expires_at = pg_catalog.clock_timestamp()
        + CASE WHEN attempt > 1 THEN GREATEST(lease, $3, record_ttl) ELSE GREATEST(lease, $3) END,
    sweep_after = pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp()
        + CASE WHEN attempt > 1 THEN GREATEST(lease, $3, record_ttl) ELSE GREATEST(lease, $3) END, 'UTC'),
    lease_until = NULL, lease = NULL, record_ttl = NULL
WHERE key = $1 AND owner = $2 AND version = 1 AND state IN ('i', 'a') AND expires_at > pg_catalog.clock_timestamp()
RETURNING 1
