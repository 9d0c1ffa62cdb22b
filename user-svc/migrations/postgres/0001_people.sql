-- What others see of a person, and what the person's clients keep for them.
-- Times are Unix milliseconds. The table is that of SQLite, in the schema that the connection's search path names.

CREATE TABLE people (
    id               uuid   NOT NULL PRIMARY KEY,
    -- A copy of auth-svc's; the version rises by one with each rename there.
    username         text   NOT NULL,
    username_version bigint NOT NULL,
    -- NULL until the registration or the person has said: a rename may make the profile first, and the registration
    -- that arrives after it still brings the names.
    first_name       text,
    last_name        text,
    bio              text   NOT NULL DEFAULT '',
    avatar_url       text   NOT NULL DEFAULT '',
    -- A JSON object as text, replaced as a whole: jsonb would give other numbers back than went in.
    preferences      text   NOT NULL DEFAULT '{}',
    created_at       bigint NOT NULL,
    updated_at       bigint NOT NULL
);
