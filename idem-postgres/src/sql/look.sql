-- The record of a key, and the time before and after it was looked for. Locks nothing.
--
-- The time before is that of the transaction, which is this statement: a statement's own time may be later than its snapshot.
SELECT ROW(
    CURRENT_TIMESTAMP, pg_catalog.clock_timestamp(),
    version, state, owner, fence, attempt, fingerprint, expires_at,
    lease_until, lease, record_ttl, completed_at, codec, schema, body)
FROM public.idem_record
WHERE key OPERATOR(pg_catalog.=) $1
