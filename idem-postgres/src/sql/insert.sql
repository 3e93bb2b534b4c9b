-- Reserves a key that has no record: attempt 1. No row: somebody else was first.
--
-- What it writes of the time was read within microseconds, and nothing is waited for but another's reservation of this
-- key: if that is undone, the lease is shorter by the wait, and is told to be.
INSERT INTO public.idem_record
    (key, scope, name, version, state, owner, fence, attempt, fingerprint, lease, record_ttl, lease_until, expires_at, sweep_after)
VALUES (
    $1, $2, $3, 1, 'i', $4,
    GREATEST(
        (EXTRACT(EPOCH FROM pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000000)::bigint,
        (SELECT removed_fence OPERATOR(pg_catalog.+) 1 FROM public.idem_record_meta)),
    1, $5, $6, $7,
    pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $6,
    pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $6 OPERATOR(pg_catalog.+) $7,
    -- Not after its lease as well: a completion that is kept for as long expires before that.
    pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $7, 'UTC')
)
ON CONFLICT (key) DO NOTHING
RETURNING attempt, fence, lease_until, pg_catalog.clock_timestamp()
