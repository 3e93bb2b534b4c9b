-- Returns the record of a key with the columns of `sql/find.sql`, or the result of `idem_record_insert` if there is none. Null:
-- another caller was faster.
--
-- These are two statements in one round trip. Each has a snapshot of its own.
CREATE OR REPLACE FUNCTION public.idem_record_reserve(
    -- Key, scope, name, owner, fingerprint, lease, record_ttl.
    pg_catalog.bytea, pg_catalog.bytea, pg_catalog.bytea, pg_catalog.bytea, pg_catalog.bytea, interval, interval
) RETURNS pg_catalog.record LANGUAGE plpgsql
-- A plan that was made while the table was small stays in use until the server analyzes the table again. That plan must not
-- be a scan of the whole table.
SET enable_seqscan = off
AS $body$
DECLARE
    found_record pg_catalog.record;
    granted bigint[];
BEGIN
    SELECT
        CURRENT_TIMESTAMP, pg_catalog.clock_timestamp(),
        version, state, owner, fence, attempt, fingerprint, expires_at,
        lease_until, lease, record_ttl, completed_at, codec, schema, body
    INTO found_record
    FROM public.idem_record
    WHERE key OPERATOR(pg_catalog.=) $1;
    IF FOUND THEN
        RETURN found_record;
    END IF;
    granted := public.idem_record_insert($1, $2, $3, $4, $5, $6, $7);
    IF granted IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN ROW(granted);
END
$body$;
