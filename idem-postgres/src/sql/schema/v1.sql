-- Version 1 of the tables of idem-postgres. `Options::create_schema` applies it by itself; a service that keeps its
-- migrations elsewhere runs it as it stands, with the names of its own choice in place of `public.idem_record`.

-- One row for a key. Instants are of the server's own clock. What is null says nothing in that state.
CREATE TABLE IF NOT EXISTS public.idem_record (
    expires_at   timestamptz NOT NULL, -- from then on the record counts as absent
    sweep_after  timestamptz NOT NULL, -- when a sweep looks at it; seldom moved, so that an update seldom touches an index
    lease_until  timestamptz,          -- in flight: from then on others may take the key over
    completed_at timestamptz,          -- completed: when
    lease        interval,             -- in flight: the span that `lease_until` was set by
    record_ttl   interval,             -- in flight: how long it is remembered after its lease
    fence        bigint      NOT NULL CHECK (fence BETWEEN 1 AND 9007199254740991),
    attempt      bigint      NOT NULL,
    schema       bigint,               -- of the response, as its codec
    codec        smallint,
    version      smallint    NOT NULL, -- of this row's form; a later one is not touched by earlier releases
    state        "char"      NOT NULL, -- i(n flight), a(bandoned), c(ompleted), n (completed, answer not kept), r(eleased)
    key          bytea       NOT NULL, -- the BLAKE3 digest of scope and name; logs show how it begins
    owner        bytea       NOT NULL, -- whose 16 bytes decide about the record
    fingerprint  bytea       NOT NULL,
    scope        bytea       NOT NULL,
    name         bytea       NOT NULL,
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
