-- Shortens a lease that is longer than its own span, because the clock stepped back, and the life of its record with it.
-- Otherwise the lease would start again with every read.
WITH found AS MATERIALIZED (
    SELECT locked.key, pg_catalog.clock_timestamp() AS now
    FROM (
        SELECT key FROM public.idem_record WHERE key OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE SKIP LOCKED
    ) AS locked
)
UPDATE public.idem_record AS record SET
    lease_until = LEAST(record.lease_until, found.now OPERATOR(pg_catalog.+) record.lease),
    expires_at = LEAST(record.expires_at, found.now OPERATOR(pg_catalog.+) CASE
        WHEN record.state OPERATOR(pg_catalog.=) 'a' THEN record.record_ttl
        ELSE record.lease OPERATOR(pg_catalog.+) record.record_ttl
    END),
    sweep_after = LEAST(
        record.sweep_after,
        pg_catalog.date_trunc('minute', found.now OPERATOR(pg_catalog.+) record.record_ttl, 'UTC'))
FROM found
WHERE record.key OPERATOR(pg_catalog.=) found.key AND record.version OPERATOR(pg_catalog.=) 1
    AND (record.state OPERATOR(pg_catalog.=) 'i' OR record.state OPERATOR(pg_catalog.=) 'a')
