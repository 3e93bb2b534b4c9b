-- Locks the record of an owner, so that nobody takes the key over while the transaction is open, and reads it. Waits for
-- another transaction that holds the lock: a renewal, or a challenger that came too early.
SELECT
    pg_catalog.txid_current_if_assigned(), pg_catalog.pg_backend_pid(),
    locked.version, locked.state, locked.expires_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()
FROM (
    SELECT version, state, expires_at FROM public.idem_record
    WHERE key OPERATOR(pg_catalog.=) $1 AND owner OPERATOR(pg_catalog.=) $2
    FOR NO KEY UPDATE
) AS locked
