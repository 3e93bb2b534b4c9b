-- What a store has to know of its server: its version, whether it takes writes and keeps them, and which of the schema ($1)
-- and the two tables ($2, $3) are there, with how they are kept (u = without a log).
SELECT
    pg_catalog.current_setting('server_version_num')::integer,
    pg_catalog.pg_is_in_recovery(),
    pg_catalog.current_setting('transaction_read_only'),
    pg_catalog.current_setting('synchronous_commit'),
    pg_catalog.current_setting('fsync'),
    EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) $1),
    (SELECT class.relpersistence FROM pg_catalog.pg_class AS class
        JOIN pg_catalog.pg_namespace AS space ON space.oid OPERATOR(pg_catalog.=) class.relnamespace
        WHERE space.nspname OPERATOR(pg_catalog.=) $1 AND class.relname OPERATOR(pg_catalog.=) $2),
    (SELECT class.relpersistence FROM pg_catalog.pg_class AS class
        JOIN pg_catalog.pg_namespace AS space ON space.oid OPERATOR(pg_catalog.=) class.relnamespace
        WHERE space.nspname OPERATOR(pg_catalog.=) $1 AND class.relname OPERATOR(pg_catalog.=) $3)
