-- What others see of a person, and what the person's clients keep for them.
-- Times are Unix milliseconds; ids are the 16 bytes of a UUID.

CREATE TABLE people (
    id               BLOB    NOT NULL PRIMARY KEY,
    -- A copy of auth-svc's; the version rises by one with each rename there.
    username         TEXT    NOT NULL,
    username_version INTEGER NOT NULL,
    -- NULL until the registration or the person has said: a rename may make the profile first, and the registration
    -- that arrives after it still brings the names.
    first_name       TEXT,
    last_name        TEXT,
    bio              TEXT    NOT NULL DEFAULT '',
    avatar_url       TEXT    NOT NULL DEFAULT '',
    -- A JSON object, replaced as a whole.
    preferences      TEXT    NOT NULL DEFAULT '{}',
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
