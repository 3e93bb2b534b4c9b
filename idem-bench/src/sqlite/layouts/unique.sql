-- A rowid table whose unique index holds the key a second time.
CREATE TABLE record (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, expires_at INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE INDEX record_expiry ON record (expires_at);
