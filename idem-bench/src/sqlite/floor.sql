CREATE TABLE claim (
    id          INTEGER PRIMARY KEY,
    key         BLOB    NOT NULL UNIQUE,
    owner       BLOB    NOT NULL,
    fingerprint BLOB    NOT NULL,
    answer      BLOB
) STRICT
