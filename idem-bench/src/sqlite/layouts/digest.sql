-- A rowid table with an index of the first four bytes of the key's digest.
CREATE TABLE record (id INTEGER PRIMARY KEY, digest INTEGER NOT NULL, key BLOB NOT NULL, expires_at INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE INDEX record_digest ON record (digest);
CREATE INDEX record_expiry ON record (expires_at);
