-- Inserts the tombstone of a key that has no record. No row: it has one by now.
INSERT INTO public.idem_record
    (key, scope, name, version, state, owner, fence, attempt, fingerprint, expires_at, sweep_after)
VALUES (
    $1, $2, $3, 1, 'r', $4,
    GREATEST(
        (EXTRACT(EPOCH FROM pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000000)::bigint,
        (SELECT removed_fence OPERATOR(pg_catalog.+) 1 FROM public.idem_record_meta)),
    1, pg_catalog.decode('0000000000000000000000000000000000000000000000000000000000000000', 'hex'),
    pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $5,
    pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $5, 'UTC')
)
ON CONFLICT (key) DO NOTHING
RETURNING 1
