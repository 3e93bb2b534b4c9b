-- The records themselves in the order of their keys.
CREATE TABLE record (key BLOB NOT NULL PRIMARY KEY, expires_at INTEGER NOT NULL, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX record_expiry ON record (expires_at);
