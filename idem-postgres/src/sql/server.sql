-- The facts about a server that the store needs: its version, whether it accepts writes and keeps them, whether the schema ($1)
-- exists, and how the two tables ($2, $3) are persisted, if they exist (u = unlogged).
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
