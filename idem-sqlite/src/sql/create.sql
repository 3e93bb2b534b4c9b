-- Version 1. The names have a prefix, so that an application can keep its own tables in the same file.
--
-- A rowid table: records are appended, and only one small index is written at random positions. Only the record holds
-- the key; the index holds four bytes of the key's digest (BLAKE3), and queries compare the key itself as well.
CREATE TABLE idem_record (
    id         INTEGER PRIMARY KEY,
    digest     INTEGER NOT NULL, -- the first 32 bits of the key's digest
    expires_at INTEGER NOT NULL, -- microseconds since the Unix epoch; from then on the record counts as absent
    key        BLOB    NOT NULL, -- one byte with the length of the scope, the scope, the name
    record     BLOB    NOT NULL  -- a version byte and the record; see frame.rs
) STRICT;

CREATE INDEX idem_record_digest ON idem_record (digest);

-- The sweep searches this table instead of an index of every record's expiry. Records that were created together mostly
-- expire together, so one row for 128 records says where to search. (PostgreSQL calls this a block range index.)
CREATE TABLE idem_zone (
    zone       INTEGER PRIMARY KEY, -- id >> 7 of its records
    expires_at INTEGER NOT NULL     -- none of its records expires earlier
) STRICT;

CREATE INDEX idem_zone_expires_at ON idem_zone (expires_at);

CREATE TRIGGER idem_record_inserted AFTER INSERT ON idem_record BEGIN
    INSERT INTO idem_zone (zone, expires_at) VALUES (NEW.id >> 7, NEW.expires_at)
    ON CONFLICT (zone) DO UPDATE SET expires_at = excluded.expires_at WHERE excluded.expires_at < expires_at;
END;

CREATE TRIGGER idem_record_expires_earlier AFTER UPDATE OF expires_at ON idem_record
WHEN NEW.expires_at < OLD.expires_at BEGIN
    UPDATE idem_zone SET expires_at = NEW.expires_at WHERE zone = NEW.id >> 7 AND NEW.expires_at < expires_at;
END;

-- One row: the greatest fencing token of all removed records.
CREATE TABLE idem_meta (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    removed_fence INTEGER NOT NULL
) STRICT;

INSERT INTO idem_meta (id, removed_fence) VALUES (1, 0);

PRAGMA user_version = 1;
