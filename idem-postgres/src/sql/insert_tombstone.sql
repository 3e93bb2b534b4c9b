-- The tombstone of a key that has no record. No row: there is one now.
INSERT INTO public.idem_record
    (key, scope, name, version, state, owner, fence, attempt, fingerprint, expires_at, sweep_after)
VALUES (
    $1, $2, $3, 1, 'r', $4,
    GREATEST(
        (EXTRACT(EPOCH FROM pg_catalog.clock_timestamp()) * 1000000)::int8,
        (SELECT removed_fence + 1 FROM public.idem_record_meta)),
    1, '\x0000000000000000000000000000000000000000000000000000000000000000',
    pg_catalog.clock_timestamp() + $5,
    pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp() + $5, 'UTC')
)
ON CONFLICT (key) DO NOTHING
RETURNING 1
