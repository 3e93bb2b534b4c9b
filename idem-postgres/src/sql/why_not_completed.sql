-- Says why a completion was not written: whether the record is the owner's, how it ended, and whether with the same answer.
SELECT
    version, owner OPERATOR(pg_catalog.=) $2, state, expires_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp(),
    -- An answer that was not kept (n) has no codec, schema and body.
    state OPERATOR(pg_catalog.=) $3 AND (
        state OPERATOR(pg_catalog.=) 'n'
        OR codec OPERATOR(pg_catalog.=) $4 AND schema OPERATOR(pg_catalog.=) $5 AND body OPERATOR(pg_catalog.=) $6
    )
FROM public.idem_record
WHERE key OPERATOR(pg_catalog.=) $1
