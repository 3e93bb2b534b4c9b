-- Completed records with random keys, which expire over the next day.
INSERT INTO idem_bench.growth
    (key, scope, name, version, state, owner, fence, attempt, fingerprint, expires_at, sweep_after, completed_at,
     codec, schema, body)
SELECT
    sha256(('key ' || number)::bytea), 'tenant-7/POST /payments', gen_random_uuid()::text::bytea, 1, 'c',
    decode(md5('owner ' || number), 'hex'), 1700000000000000 + number, 1, sha256('100 EUR'),
    now() + INTERVAL '1 day' + number * INTERVAL '10 milliseconds',
    date_trunc('minute', now() + INTERVAL '1 day' + number * INTERVAL '10 milliseconds'), now(),
    0, 0, sha256(('a' || number)::bytea) || sha256(('b' || number)::bytea)
FROM generate_series($1::int8, $2::int8) AS number
