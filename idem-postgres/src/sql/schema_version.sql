-- The version of the tables, and how many of their functions exist: in the schema $1, with the names $2 to $4 and the bodies
-- $5 to $7, which contain the names of the tables. A tool may have changed the line endings.
SELECT
    version,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc AS function
        JOIN pg_catalog.pg_namespace AS space ON space.oid OPERATOR(pg_catalog.=) function.pronamespace
        CROSS JOIN LATERAL pg_catalog.translate(function.prosrc, pg_catalog.chr(13), '') AS body
        WHERE space.nspname OPERATOR(pg_catalog.=) $1 AND (
            function.proname OPERATOR(pg_catalog.=) $2 AND body OPERATOR(pg_catalog.=) $5
            OR function.proname OPERATOR(pg_catalog.=) $3 AND body OPERATOR(pg_catalog.=) $6
            OR function.proname OPERATOR(pg_catalog.=) $4 AND body OPERATOR(pg_catalog.=) $7))
FROM public.idem_record_meta
WHERE id OPERATOR(pg_catalog.=) 1
