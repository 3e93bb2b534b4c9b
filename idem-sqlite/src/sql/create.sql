-- Version 1. The names have a prefix, so that a service can keep its own tables in the same file.
--
-- A rowid table: records are appended, and only the small indexes are written at random places. The key stands in the
-- record alone; the index holds six bytes of its digest (BLAKE3), and what has the same digest is compared by its key.
CREATE TABLE idem_record (
    id         INTEGER PRIMARY KEY,
    digest     INTEGER NOT NULL, -- the first 48 bits of the key's digest
    expires_at INTEGER NOT NULL, -- microseconds since the epoch; from then on the record counts as absent
    key        BLOB    NOT NULL, -- one byte of scope length, the scope, the name
    record     BLOB    NOT NULL  -- a version byte and the record; see frame.rs
) STRICT;

CREATE INDEX idem_record_digest ON idem_record (digest);
CREATE INDEX idem_record_expires_at ON idem_record (expires_at);

-- One row: no record that was removed had a greater fencing token than this.
CREATE TABLE idem_meta (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    removed_fence INTEGER NOT NULL
) STRICT;

INSERT INTO idem_meta (id, removed_fence) VALUES (1, 0);

PRAGMA user_version = 1;
