-- Stores the answer of the owner in flight, abandoned or not. No row: it is not the owner's, or not in flight.
--
-- $8 is the transaction in which alone it may be stored, or null. Where a COMMIT or ROLLBACK of somebody else's came
-- before, this is another one.
UPDATE public.idem_record SET
    state = $3, codec = $4, schema = $5, body = $6,
    completed_at = pg_catalog.clock_timestamp(),
    expires_at = pg_catalog.clock_timestamp() + $7,
    -- Left as it is if it is not far off: then no index has to be touched.
    sweep_after = CASE
        WHEN sweep_after BETWEEN pg_catalog.clock_timestamp() + $7 - INTERVAL '1 hour' AND pg_catalog.clock_timestamp() + $7
        THEN sweep_after
        ELSE pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp() + $7, 'UTC')
    END,
    lease_until = NULL, lease = NULL, record_ttl = NULL
WHERE key = $1 AND owner = $2 AND version = 1 AND state IN ('i', 'a') AND expires_at > pg_catalog.clock_timestamp()
    AND ($8 IS NULL OR $8 = COALESCE(pg_catalog.txid_current_if_assigned(), 0))
RETURNING 1
