-- Stores the answer of the owner in flight, abandoned or not. No row: it is not the owner's, or not in flight.
--
-- $8 is the transaction in which alone it may be stored, or null. Where a COMMIT or ROLLBACK of somebody else's came
-- before, this is another one.
UPDATE public.idem_record AS record SET
    state = $3, codec = $4, schema = $5, body = $6, completed_at = clock.now,
    expires_at = clock.now + $7 * INTERVAL '1 microsecond',
    sweep_after = CASE
        WHEN clock.now + $7 * INTERVAL '1 microsecond' >= record.sweep_after
            AND clock.now + $7 * INTERVAL '1 microsecond' < record.sweep_after + INTERVAL '1 hour'
        THEN record.sweep_after
        ELSE pg_catalog.date_trunc('minute', clock.now + $7 * INTERVAL '1 microsecond', 'UTC')
    END,
    lease_until = NULL, lease = NULL, record_ttl = NULL
FROM (SELECT pg_catalog.clock_timestamp() AS now OFFSET 0) AS clock
WHERE record.key = $1 AND record.owner = $2 AND record.version = 1
    AND record.state IN ('i', 'a') AND record.expires_at > clock.now
    AND ($8 IS NULL OR $8 = COALESCE(pg_catalog.txid_current_if_assigned(), 0))
RETURNING 1
