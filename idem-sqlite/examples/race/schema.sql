-- What customers asked for. It lets the count below see a key that was never created, too.
CREATE TABLE requested (
    key TEXT NOT NULL PRIMARY KEY
) STRICT;

-- What the handler created: its effect, which must happen once per key. Nothing here forbids a second row, since that
-- is idem's task, and most effects (a payment, an e-mail, a virtual machine) know no unique index.
CREATE TABLE created (
    id     INTEGER PRIMARY KEY,
    key    TEXT    NOT NULL REFERENCES requested (key),
    caller INTEGER NOT NULL
) STRICT;
