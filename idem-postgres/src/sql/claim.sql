-- Reserves a key whose record leaves it free: it has expired, another owner released it, or its owner abandoned it or has no
-- lease any more. No row: the record is locked, or does not leave the key free any more.
--
-- The time is read after the lock was acquired.
WITH found AS MATERIALIZED (
    SELECT locked.key, pg_catalog.clock_timestamp() AS now
    FROM (
        SELECT key FROM public.idem_record WHERE key OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE SKIP LOCKED
    ) AS locked
)
UPDATE public.idem_record AS record SET
    state = 'i', owner = $2, fingerprint = $3, lease = $4, record_ttl = $5,
    fence = GREATEST(
        (EXTRACT(EPOCH FROM found.now) OPERATOR(pg_catalog.*) 1000000)::bigint,
        record.fence OPERATOR(pg_catalog.+) 1),
    attempt = CASE
        WHEN record.expires_at OPERATOR(pg_catalog.<=) found.now THEN 1
        WHEN record.state OPERATOR(pg_catalog.=) 'r' THEN record.attempt
        ELSE LEAST(record.attempt OPERATOR(pg_catalog.+) 1, 4294967295)
    END,
    version = 1,
    lease_until = found.now OPERATOR(pg_catalog.+) $4,
    expires_at = found.now OPERATOR(pg_catalog.+) $4 OPERATOR(pg_catalog.+) $5,
    sweep_after = pg_catalog.date_trunc('minute', found.now OPERATOR(pg_catalog.+) $5, 'UTC'),
    completed_at = NULL, codec = NULL, schema = NULL, body = NULL
FROM found
-- Checked on the current record, which may be newer than the one that the lock was requested on.
WHERE record.key OPERATOR(pg_catalog.=) found.key AND (
    record.expires_at OPERATOR(pg_catalog.<=) found.now
    OR record.version OPERATOR(pg_catalog.=) 1 AND record.owner OPERATOR(pg_catalog.<>) $2 AND (
        record.state OPERATOR(pg_catalog.=) 'r'
        OR record.fingerprint OPERATOR(pg_catalog.=) $3 AND (
            record.state OPERATOR(pg_catalog.=) 'a'
            OR record.state OPERATOR(pg_catalog.=) 'i' AND record.lease_until OPERATOR(pg_catalog.<=) found.now
        )
    )
)
RETURNING record.attempt, record.fence, record.lease_until, found.now
