-- Of several processes that make the tables at the same time one goes first; the lock ends with the transaction.
SELECT pg_catalog.pg_advisory_xact_lock(7594320914327659876);
