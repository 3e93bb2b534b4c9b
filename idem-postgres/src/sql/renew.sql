-- Extends the lease of the owner in flight, and never shortens it. No row: the record is not the owner's, or it is locked.
--
-- A lease that is longer than its own span shows that the clock stepped back. It counts as that span.
WITH found AS MATERIALIZED (
    SELECT locked.key, pg_catalog.clock_timestamp() AS now
    FROM (
        SELECT key FROM public.idem_record
        WHERE key OPERATOR(pg_catalog.=) $1 AND owner OPERATOR(pg_catalog.=) $2
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS locked
), asked AS MATERIALIZED (
    SELECT key, now, now OPERATOR(pg_catalog.+) $3 AS lease_until FROM found
)
UPDATE public.idem_record AS record SET
    lease = CASE
        WHEN asked.lease_until OPERATOR(pg_catalog.>=)
            LEAST(record.lease_until, asked.now OPERATOR(pg_catalog.+) record.lease)
        THEN $3
        ELSE record.lease
    END,
    lease_until = GREATEST(
        asked.lease_until,
        LEAST(record.lease_until, asked.now OPERATOR(pg_catalog.+) record.lease)),
    expires_at = GREATEST(
        asked.lease_until,
        LEAST(record.lease_until, asked.now OPERATOR(pg_catalog.+) record.lease))
        OPERATOR(pg_catalog.+) record.record_ttl,
    sweep_after = CASE
        WHEN asked.lease_until OPERATOR(pg_catalog.+) record.record_ttl
            OPERATOR(pg_catalog.<) (record.sweep_after OPERATOR(pg_catalog.+) INTERVAL '1 hour')
        THEN record.sweep_after
        ELSE pg_catalog.date_trunc('minute', asked.lease_until OPERATOR(pg_catalog.+) record.record_ttl, 'UTC')
    END
FROM asked
WHERE record.key OPERATOR(pg_catalog.=) asked.key AND record.owner OPERATOR(pg_catalog.=) $2
    AND record.version OPERATOR(pg_catalog.=) 1 AND record.state OPERATOR(pg_catalog.=) 'i'
    AND record.fingerprint OPERATOR(pg_catalog.=) COALESCE($4, record.fingerprint)
    AND record.expires_at OPERATOR(pg_catalog.>) asked.now
RETURNING record.attempt, record.fence, record.lease_until, asked.now
