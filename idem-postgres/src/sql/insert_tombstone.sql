-- The tombstone of a key that has no record. No row: there is one now.
INSERT INTO public.idem_record
    (key, scope, name, version, state, owner, fence, attempt, fingerprint, expires_at, sweep_after)
SELECT
    $1, $2, $3, 1, 'r', $4,
    GREATEST((EXTRACT(EPOCH FROM clock.now) * 1000000)::bigint, meta.removed_fence + 1),
    1, '\x0000000000000000000000000000000000000000000000000000000000000000',
    clock.now + $5 * INTERVAL '1 microsecond',
    pg_catalog.date_trunc('minute', clock.now + $5 * INTERVAL '1 microsecond', 'UTC')
FROM (SELECT pg_catalog.clock_timestamp() AS now OFFSET 0) AS clock, public.idem_record_meta AS meta
WHERE meta.id = 1
ON CONFLICT (key) DO NOTHING
RETURNING 1
