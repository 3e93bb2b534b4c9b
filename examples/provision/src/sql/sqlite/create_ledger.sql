-- One row for each run of a handler: its effect, which must happen once per request. Nothing here forbids a second row
-- for one key, since that is idem's task, and most effects know no unique index.
CREATE TABLE IF NOT EXISTS ledger (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    kind    TEXT    NOT NULL,
    team    TEXT    NOT NULL,
    name    TEXT    NOT NULL,
    key     TEXT,             -- the idempotency key; NULL for a request without one
    attempt INTEGER NOT NULL,
    fence   INTEGER NOT NULL,
    outcome TEXT    NOT NULL, -- how the request asks the run to end
    at      TEXT    NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) STRICT;
