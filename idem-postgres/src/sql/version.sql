-- The version of the tables, and how many of their functions ($2 to $4, in the schema $1) are there.
SELECT
    version,
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc AS function
        JOIN pg_catalog.pg_namespace AS space ON space.oid OPERATOR(pg_catalog.=) function.pronamespace
        WHERE space.nspname OPERATOR(pg_catalog.=) $1
            AND (function.proname OPERATOR(pg_catalog.=) $2 OR function.proname OPERATOR(pg_catalog.=) $3
                OR function.proname OPERATOR(pg_catalog.=) $4))
FROM public.idem_record_meta
WHERE id OPERATOR(pg_catalog.=) 1
