-- Puts a tombstone in the place of the owner's record in flight. No row: it is not the owner's, or not in flight.
UPDATE public.idem_record AS record SET
    state = 'r',
    fingerprint = '\x0000000000000000000000000000000000000000000000000000000000000000',
    expires_at = clock.now + (CASE
        -- The number of a run that was taken over is remembered for as long as its record would have been.
        WHEN record.attempt > 1 THEN GREATEST(record.lease, $3, record.record_ttl)
        ELSE GREATEST(record.lease, $3)
    END) * INTERVAL '1 microsecond',
    sweep_after = pg_catalog.date_trunc('minute', clock.now + (CASE
        WHEN record.attempt > 1 THEN GREATEST(record.lease, $3, record.record_ttl)
        ELSE GREATEST(record.lease, $3)
    END) * INTERVAL '1 microsecond', 'UTC'),
    lease_until = NULL, lease = NULL, record_ttl = NULL
FROM (SELECT pg_catalog.clock_timestamp() AS now OFFSET 0) AS clock
WHERE record.key = $1 AND record.owner = $2 AND record.version = 1
    AND record.state IN ('i', 'a') AND record.expires_at > clock.now
RETURNING 1
