-- The same, with one row for the expiries of 128 neighbours, kept by triggers: the layout of idem-sqlite.
CREATE TABLE record (id INTEGER PRIMARY KEY, digest INTEGER NOT NULL, key BLOB NOT NULL, expires_at INTEGER NOT NULL, record BLOB NOT NULL) STRICT;
CREATE INDEX record_digest ON record (digest);
CREATE TABLE zone (zone INTEGER PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT;
CREATE INDEX zone_expiry ON zone (expires_at);
CREATE TRIGGER record_inserted AFTER INSERT ON record BEGIN
    INSERT INTO zone (zone, expires_at) VALUES (NEW.id >> 7, NEW.expires_at)
    ON CONFLICT (zone) DO UPDATE SET expires_at = excluded.expires_at WHERE excluded.expires_at < expires_at;
END;
CREATE TRIGGER record_expires_earlier AFTER UPDATE OF expires_at ON record WHEN NEW.expires_at < OLD.expires_at BEGIN
    UPDATE zone SET expires_at = NEW.expires_at WHERE zone = NEW.id >> 7 AND NEW.expires_at < expires_at;
END;
