-- Reserves a key that has no record, as attempt 1. Returns the fence and the microseconds that the lease still runs. Null:
-- another caller was faster.
--
-- This and the other two are functions so that each server connection keeps their plans, also behind a pooler that runs each
-- transaction on any connection. A later release that needs another body must give the function another name, because both
-- releases may run at the same time.
CREATE OR REPLACE FUNCTION public.idem_record_insert(
    -- Key, scope, name, owner, fingerprint, lease, record_ttl.
    pg_catalog.bytea, pg_catalog.bytea, pg_catalog.bytea, pg_catalog.bytea, pg_catalog.bytea, interval, interval
) RETURNS bigint[] LANGUAGE plpgsql
AS $body$
DECLARE
    granted bigint;
    granted_until pg_catalog.timestamptz;
BEGIN
    INSERT INTO public.idem_record
        (key, scope, name, version, state, owner, fence, attempt, fingerprint, lease, record_ttl, lease_until, expires_at,
         sweep_after)
    VALUES (
        $1, $2, $3, 1, 'i', $4,
        GREATEST(
            (EXTRACT(EPOCH FROM pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000000)::bigint,
            (SELECT removed_fence OPERATOR(pg_catalog.+) 1 FROM public.idem_record_meta
                WHERE id OPERATOR(pg_catalog.=) 1)),
        1, $5, $6, $7,
        pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $6,
        pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $6 OPERATOR(pg_catalog.+) $7,
        -- Without the lease, because a completion with a retention of the same length expires earlier.
        pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $7, 'UTC')
    )
    ON CONFLICT (key) DO NOTHING
    RETURNING fence, lease_until INTO granted, granted_until;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- The insert may have waited for another reservation that was then rolled back, and the lease has run meanwhile.
    RETURN ARRAY[
        granted,
        (EXTRACT(EPOCH FROM granted_until OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp())
            OPERATOR(pg_catalog.*) 1000000)::bigint];
END
$body$;
