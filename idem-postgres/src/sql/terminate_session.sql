-- Ends the session of transaction $2, when a running statement keeps the transaction from being ended otherwise.
SELECT pg_catalog.pg_terminate_backend(pid)
FROM pg_catalog.pg_stat_activity
WHERE pid OPERATOR(pg_catalog.=) $1
    AND backend_xid::pg_catalog.text::bigint OPERATOR(pg_catalog.=) ($2 OPERATOR(pg_catalog.%) 4294967296)
