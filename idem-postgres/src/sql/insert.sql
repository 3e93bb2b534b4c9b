-- Reserves a key that has no record: attempt 1. No row: somebody else was first.
INSERT INTO public.idem_record
    (key, scope, name, version, state, owner, fence, attempt, fingerprint, lease, record_ttl, lease_until, expires_at, sweep_after)
SELECT
    $1, $2, $3, 1, 'i', $4,
    GREATEST((EXTRACT(EPOCH FROM clock.now) * 1000000)::bigint, meta.removed_fence + 1),
    1, $5, $6, $7,
    clock.now + $6 * INTERVAL '1 microsecond',
    clock.now + $6 * INTERVAL '1 microsecond' + $7 * INTERVAL '1 microsecond',
    -- Not after its lease as well: a completion that is kept for as long expires before that.
    pg_catalog.date_trunc('minute', clock.now + $7 * INTERVAL '1 microsecond', 'UTC')
FROM (SELECT pg_catalog.clock_timestamp() AS now OFFSET 0) AS clock, public.idem_record_meta AS meta
WHERE meta.id = 1
ON CONFLICT (key) DO NOTHING
RETURNING attempt, fence, lease_until, pg_catalog.clock_timestamp()
