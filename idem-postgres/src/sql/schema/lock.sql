-- Of several processes that make the tables at the same time one goes first. The lock ends with the transaction, as does
-- the path: types and operators in the tables are the server's own.
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT pg_catalog.pg_advisory_xact_lock(7594320914327659876);
