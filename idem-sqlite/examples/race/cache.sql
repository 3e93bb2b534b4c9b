-- The classic cache of answers, shared by all processes as a Redis would be.
CREATE TABLE IF NOT EXISTS cache (
    key  TEXT NOT NULL PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;
