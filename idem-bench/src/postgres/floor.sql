-- The least that an idempotency table has: who claimed a key, for what, until when, and its answer.
CREATE TABLE IF NOT EXISTS idem_bench.claim (
    key         bytea PRIMARY KEY,
    scope       bytea NOT NULL,
    name        bytea NOT NULL,
    owner       bytea NOT NULL,
    fingerprint bytea NOT NULL,
    lease_until timestamptz NOT NULL,
    answer      bytea
)
