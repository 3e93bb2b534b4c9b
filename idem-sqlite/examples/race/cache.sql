-- The usual cache of answers, shared by all processes like a Redis server.
CREATE TABLE IF NOT EXISTS cache (
    key  TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;
