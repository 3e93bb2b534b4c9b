-- The record of a key, as `look.sql` has it; or if there is none, the reservation that `idem_record_insert` makes. Null:
-- somebody else was first.
--
-- Two statements, each of which sees what was committed before it, in one round trip.
CREATE OR REPLACE FUNCTION public.idem_record_reserve(
    -- Key, scope, name, owner, fingerprint, lease, record_ttl.
    pg_catalog.bytea, pg_catalog.bytea, pg_catalog.bytea, pg_catalog.bytea, pg_catalog.bytea, interval, interval
) RETURNS pg_catalog.record LANGUAGE plpgsql
-- A plan that was made while the table was small is kept until the server has analysed it anew, and reading the whole table
-- must not be that plan.
SET enable_seqscan = off
AS $body$
DECLARE
    looked pg_catalog.record;
    granted bigint[];
BEGIN
    SELECT
        CURRENT_TIMESTAMP, pg_catalog.clock_timestamp(),
        version, state, owner, fence, attempt, fingerprint, expires_at,
        lease_until, lease, record_ttl, completed_at, codec, schema, body
    INTO looked
    FROM public.idem_record
    WHERE key OPERATOR(pg_catalog.=) $1;
    IF FOUND THEN
        RETURN looked;
    END IF;
    granted := public.idem_record_insert($1, $2, $3, $4, $5, $6, $7);
    IF granted IS NULL THEN
        RETURN NULL;
    END IF;
    RETURN ROW(granted);
END
$body$;
