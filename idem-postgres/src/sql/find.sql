-- Returns the record of a key, and the time before and after it was read. Locks nothing.
--
-- The first time is that of the transaction, which is this statement. `statement_timestamp()` could be later than the snapshot.
SELECT ROW(
    CURRENT_TIMESTAMP, pg_catalog.clock_timestamp(),
    version, state, owner, fence, attempt, fingerprint, expires_at,
    lease_until, lease, record_ttl, completed_at, codec, schema, body)
FROM public.idem_record
WHERE key OPERATOR(pg_catalog.=) $1
