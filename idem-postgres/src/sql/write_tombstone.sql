-- Replaces an expired record with a tombstone. No row: the record is locked, or is not expired any more.
WITH found AS MATERIALIZED (
    SELECT locked.key, pg_catalog.clock_timestamp() AS now
    FROM (
        SELECT key FROM public.idem_record WHERE key OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE SKIP LOCKED
    ) AS locked
)
UPDATE public.idem_record AS record SET
    state = 'r', owner = $2, version = 1, attempt = 1,
    fence = GREATEST(
        (EXTRACT(EPOCH FROM found.now) OPERATOR(pg_catalog.*) 1000000)::bigint,
        record.fence OPERATOR(pg_catalog.+) 1),
    fingerprint = pg_catalog.decode('0000000000000000000000000000000000000000000000000000000000000000', 'hex'),
    expires_at = found.now OPERATOR(pg_catalog.+) $3,
    sweep_after = pg_catalog.date_trunc('minute', found.now OPERATOR(pg_catalog.+) $3, 'UTC'),
    lease_until = NULL, lease = NULL, record_ttl = NULL,
    completed_at = NULL, codec = NULL, schema = NULL, body = NULL
FROM found
WHERE record.key OPERATOR(pg_catalog.=) found.key AND record.expires_at OPERATOR(pg_catalog.<=) found.now
RETURNING 1
