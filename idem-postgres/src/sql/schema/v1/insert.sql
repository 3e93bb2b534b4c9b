-- Reserves a key that has no record: attempt 1. Gives the fence and the microseconds that are left of the lease; null:
-- somebody else was first.
--
-- This and the other two are functions so that a connection of the server's keeps their plans, also behind a pooler that gives
-- a transaction any of them. A later release that needs another body gives it another name, since both may run at the same
-- time.
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
        -- Not after its lease as well: a completion that is kept for as long expires before that.
        pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $7, 'UTC')
    )
    ON CONFLICT (key) DO NOTHING
    RETURNING fence, lease_until INTO granted, granted_until;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    -- Another's reservation of this key that was then undone may have been waited for: the lease is shorter by that.
    RETURN ARRAY[
        granted,
        (EXTRACT(EPOCH FROM granted_until OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp())
            OPERATOR(pg_catalog.*) 1000000)::bigint];
END
$body$;
