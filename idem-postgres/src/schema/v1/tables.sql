-- Version 1 of the tables of idem-postgres. `PostgresStore::connect` applies it, with the functions next to this file, unless
-- `PostgresOptions::create_schema` is off. `PostgresStore::schema_sql` returns it for your own migration tool.

-- One row for each key. Instants are those of the server's clock. A column that has no meaning in a state is null.
--
-- Columns that a completion does not change come first: the server's log contains only what follows them.
CREATE TABLE IF NOT EXISTS public.idem_record (
    sweep_after  timestamptz NOT NULL, -- from when a sweep looks at it; seldom changed, because a change updates an index
    fence        bigint      NOT NULL CHECK (fence BETWEEN 1 AND 9007199254740991), -- 2^53 - 1
    attempt      bigint      NOT NULL,
    version      smallint    NOT NULL, -- of the row's format; releases do not touch rows of a later version
    key          bytea       NOT NULL, -- the BLAKE3 digest of scope and name; logs show its first bytes
    owner        bytea       NOT NULL, -- the token of the owner, 16 bytes
    fingerprint  bytea       NOT NULL,
    scope        bytea       NOT NULL,
    name         bytea       NOT NULL,
    state        "char"      NOT NULL, -- i(n flight), a(bandoned), c(ompleted), n (completed, answer not kept), r(eleased)
    expires_at   timestamptz NOT NULL, -- from then on, the record counts as absent
    lease_until  timestamptz,          -- in flight: from then on, others may take the key over
    completed_at timestamptz,          -- completed: when the answer was stored
    lease        interval,             -- in flight: the span that `lease_until` was computed from
    record_ttl   interval,             -- in flight: how long the record is kept after its lease
    schema       bigint,               -- of the answer, as is its codec
    codec        smallint,
    body         bytea,                -- of the answer
    CONSTRAINT idem_record_pkey PRIMARY KEY (key)
) WITH (fillfactor = 85); -- room for the completion on the page of its reservation

CREATE INDEX IF NOT EXISTS idem_record_sweep ON public.idem_record (sweep_after);

-- One row: the version of the tables, and the greatest fencing token of all removed records.
CREATE TABLE IF NOT EXISTS public.idem_record_meta (
    id            smallint NOT NULL CHECK (id = 1),
    version       integer  NOT NULL,
    removed_fence bigint   NOT NULL,
    CONSTRAINT idem_record_meta_pkey PRIMARY KEY (id)
);

INSERT INTO public.idem_record_meta (id, version, removed_fence) VALUES (1, 1, 0) ON CONFLICT (id) DO NOTHING;
