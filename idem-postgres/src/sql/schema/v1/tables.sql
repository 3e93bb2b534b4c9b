-- Version 1 of the tables of idem-postgres; their functions stand beside them. `Options::create_schema` applies them by itself;
-- for a service that keeps its migrations elsewhere `PostgresStore::schema_sql` gives all of it, with the names of its choice.

-- One row for a key. Instants are of the server's own clock. What is null says nothing in that state.
--
-- What a completion leaves as it is stands before what it changes: the server's log has only what comes after that.
CREATE TABLE IF NOT EXISTS public.idem_record (
    sweep_after  timestamptz NOT NULL, -- when a sweep looks at it; seldom moved, so that an update seldom touches an index
    fence        bigint      NOT NULL CHECK (fence BETWEEN 1 AND 9007199254740991), -- 2^53 - 1
    attempt      bigint      NOT NULL,
    version      smallint    NOT NULL, -- of this row's form; a later one is not touched by earlier releases
    key          bytea       NOT NULL, -- the BLAKE3 digest of scope and name; logs show how it begins
    owner        bytea       NOT NULL, -- whose 16 bytes decide about the record
    fingerprint  bytea       NOT NULL,
    scope        bytea       NOT NULL,
    name         bytea       NOT NULL,
    state        "char"      NOT NULL, -- i(n flight), a(bandoned), c(ompleted), n (completed, answer not kept), r(eleased)
    expires_at   timestamptz NOT NULL, -- from then on the record counts as absent
    lease_until  timestamptz,          -- in flight: from then on others may take the key over
    completed_at timestamptz,          -- completed: when
    lease        interval,             -- in flight: the span that `lease_until` was set by
    record_ttl   interval,             -- in flight: how long it is remembered after its lease
    schema       bigint,               -- of the response, as its codec
    codec        smallint,
    body         bytea,                -- of the response
    CONSTRAINT idem_record_pkey PRIMARY KEY (key)
) WITH (fillfactor = 85); -- room for the completion beside its reservation

CREATE INDEX IF NOT EXISTS idem_record_sweep ON public.idem_record (sweep_after);

-- One row: the version of the tables, and the greatest fencing token of the records that were removed.
CREATE TABLE IF NOT EXISTS public.idem_record_meta (
    id            smallint NOT NULL CHECK (id = 1),
    version       integer  NOT NULL,
    removed_fence bigint   NOT NULL,
    CONSTRAINT idem_record_meta_pkey PRIMARY KEY (id)
);

INSERT INTO public.idem_record_meta (id, version, removed_fence) VALUES (1, 1, 0) ON CONFLICT (id) DO NOTHING;
