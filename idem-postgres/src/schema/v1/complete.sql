-- Stores the answer of the owner in flight, abandoned or not. False: the record is not the owner's, or not in flight.
--
-- If $8 is not null, the answer is stored only in the transaction with that number. It is another transaction if the caller's
-- SQL contained a COMMIT or ROLLBACK.
CREATE OR REPLACE FUNCTION public.idem_record_complete(
    -- Key, owner, state, codec, schema, body, retention, transaction.
    pg_catalog.bytea, pg_catalog.bytea, pg_catalog."char", smallint, bigint, pg_catalog.bytea, interval, bigint
) RETURNS boolean LANGUAGE plpgsql
-- For the reason given in `reserve.sql`.
SET enable_seqscan = off
AS $body$
BEGIN
    UPDATE public.idem_record SET
        state = $3, codec = $4, schema = $5, body = $6,
        completed_at = pg_catalog.clock_timestamp(),
        expires_at = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $7,
        -- Kept if it is close enough, so that no index has to be updated.
        sweep_after = CASE
            WHEN sweep_after OPERATOR(pg_catalog.<=) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $7)
                AND sweep_after OPERATOR(pg_catalog.+) INTERVAL '1 hour'
                    OPERATOR(pg_catalog.>=) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $7)
            THEN sweep_after
            ELSE pg_catalog.date_trunc('minute', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $7, 'UTC')
        END,
        lease_until = NULL, lease = NULL, record_ttl = NULL
    WHERE key OPERATOR(pg_catalog.=) $1 AND owner OPERATOR(pg_catalog.=) $2 AND version OPERATOR(pg_catalog.=) 1
        AND (state OPERATOR(pg_catalog.=) 'i' OR state OPERATOR(pg_catalog.=) 'a')
        AND expires_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
        AND ($8 IS NULL OR $8 OPERATOR(pg_catalog.=) COALESCE(pg_catalog.txid_current_if_assigned(), 0));
    RETURN FOUND;
END
$body$;
