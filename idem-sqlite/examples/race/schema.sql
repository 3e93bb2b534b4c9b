-- What customers requested. With it, the count also finds keys that were never created.
CREATE TABLE requested (
    key TEXT NOT NULL PRIMARY KEY
) STRICT;

-- The effect of the handler, which must happen once per key. No unique index prevents a second row: that is idem's task,
-- and most effects (a payment, an e-mail, a virtual machine) have no unique index.
CREATE TABLE created (
    id     INTEGER PRIMARY KEY,
    key    TEXT    NOT NULL REFERENCES requested (key),
    caller INTEGER NOT NULL
) STRICT;
