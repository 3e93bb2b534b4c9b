-- If several processes create the tables at the same time, one goes first. The lock and the path end with the transaction.
-- The path makes types and operators in the tables the server's own.
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT pg_catalog.pg_advisory_xact_lock(7594320914327659876);
