-- Reserves a key whose record leaves it free: expired, released by another, or of an owner whose lease is over or
-- abandoned. No row: somebody else has the record locked, or it does not leave the key free any more.
--
-- The time is read once the lock is held.
WITH found AS MATERIALIZED (
    SELECT locked.key, pg_catalog.clock_timestamp() AS now
    FROM (SELECT key FROM public.idem_record WHERE key = $1 FOR NO KEY UPDATE SKIP LOCKED) AS locked
)
UPDATE public.idem_record AS record SET
    state = 'i', owner = $2, fingerprint = $3, lease = $4, record_ttl = $5,
    fence = GREATEST((EXTRACT(EPOCH FROM found.now) * 1000000)::bigint, record.fence + 1),
    attempt = CASE
        WHEN record.expires_at <= found.now THEN 1
        WHEN record.state = 'r' THEN record.attempt
        ELSE LEAST(record.attempt + 1, 4294967295)
    END,
    version = 1,
    lease_until = found.now + $4,
    expires_at = found.now + $4 + $5,
    sweep_after = pg_catalog.date_trunc('minute', found.now + $5, 'UTC'),
    completed_at = NULL, codec = NULL, schema = NULL, body = NULL
FROM found
-- Asked of the record as it is now, which may be a later one than the lock began with.
WHERE record.key = found.key AND (
    record.expires_at <= found.now
    OR record.version = 1 AND record.owner <> $2 AND (
        record.state = 'r'
        OR record.fingerprint = $3 AND (record.state = 'a' OR record.state = 'i' AND record.lease_until <= found.now)
    )
)
RETURNING record.attempt, record.fence, record.lease_until, found.now
