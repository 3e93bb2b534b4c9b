-- Why a completion was not written: whose the record is, how it ended, and whether with this very answer.
SELECT
    version, owner OPERATOR(pg_catalog.=) $2, state, expires_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp(),
    -- Byte by byte, and null is null.
    ROW(state, codec, schema, body) OPERATOR(pg_catalog.*=) ROW($3, $4, $5, $6)
FROM public.idem_record
WHERE key OPERATOR(pg_catalog.=) $1
