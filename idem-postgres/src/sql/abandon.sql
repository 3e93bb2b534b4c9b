-- Lets the next caller in. No row: it is not the owner's, or not in flight, or abandoned already.
UPDATE public.idem_record AS record SET
    state = 'a',
    expires_at = clock.now + record.record_ttl * INTERVAL '1 microsecond',
    sweep_after = CASE
        WHEN clock.now + record.record_ttl * INTERVAL '1 microsecond' >= record.sweep_after
            AND clock.now + record.record_ttl * INTERVAL '1 microsecond' < record.sweep_after + INTERVAL '1 hour'
        THEN record.sweep_after
        ELSE pg_catalog.date_trunc('minute', clock.now + record.record_ttl * INTERVAL '1 microsecond', 'UTC')
    END
FROM (SELECT pg_catalog.clock_timestamp() AS now OFFSET 0) AS clock
WHERE record.key = $1 AND record.owner = $2 AND record.version = 1
    AND record.state = 'i' AND record.expires_at > clock.now
RETURNING 1
