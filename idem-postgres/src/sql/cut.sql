-- Cuts a lease that is longer than its own span, since the clock stepped back; and with it how long the record is
-- remembered. Without this, the lease would begin anew with every look.
WITH found AS MATERIALIZED (
    SELECT locked.key, pg_catalog.clock_timestamp() AS now
    FROM (SELECT key FROM public.idem_record WHERE key = $1 FOR NO KEY UPDATE SKIP LOCKED) AS locked
)
UPDATE public.idem_record AS record SET
    lease_until = LEAST(record.lease_until, found.now + record.lease),
    expires_at = LEAST(record.expires_at, found.now + (CASE record.state
        WHEN 'a' THEN record.record_ttl
        ELSE record.lease + record.record_ttl
    END)),
    sweep_after = LEAST(record.sweep_after, pg_catalog.date_trunc('minute',
        found.now + record.record_ttl, 'UTC'))
FROM found
WHERE record.key = found.key AND record.version = 1 AND record.state IN ('i', 'a')
