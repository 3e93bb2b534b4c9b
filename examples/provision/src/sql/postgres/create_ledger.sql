-- One row for each run of a handler that was completed: its effect, in the transaction that completes the request.
-- Processes that start at the same time wait for each other here: IF NOT EXISTS alone lets one of them fail.
SELECT pg_advisory_xact_lock(8316581249057);
CREATE TABLE IF NOT EXISTS ledger (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind    text        NOT NULL,
    team    text        NOT NULL,
    name    text        NOT NULL,
    key     text,             -- the idempotency key; NULL for a request without one
    attempt bigint      NOT NULL,
    fence   bigint      NOT NULL,
    outcome text        NOT NULL, -- how the request asks the run to end
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
