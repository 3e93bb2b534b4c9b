INSERT INTO idem_bench.claim (key, scope, name, owner, fingerprint, lease_until)
VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6 * INTERVAL '1 second')
ON CONFLICT (key) DO NOTHING RETURNING lease_until
