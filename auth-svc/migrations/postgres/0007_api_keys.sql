-- Service accounts, which other teams' programs call as, and their API keys. A service account is an account like any other
-- that nobody can log in to.

CREATE TABLE service_accounts (
    id           uuid   NOT NULL PRIMARY KEY REFERENCES accounts (id),
    -- An actor, as the audit log names them.
    made_by_kind text   NOT NULL,
    made_by      text   NOT NULL,
    created_at   bigint NOT NULL
);

CREATE TABLE api_keys (
    -- It stands as the session's id in tokens between services and in revocations.
    id           uuid   NOT NULL PRIMARY KEY,
    user_id      uuid   NOT NULL REFERENCES service_accounts (id),
    -- SHA-256 of 256 random bits.
    hash         bytea  NOT NULL UNIQUE,
    -- How the key begins, for people who look for one.
    prefix       text   NOT NULL,
    name         text   NOT NULL,
    -- Names separated by spaces.
    scopes       text   NOT NULL,
    made_by_kind text   NOT NULL,
    made_by      text   NOT NULL,
    created_at   bigint NOT NULL,
    expires_at   bigint NOT NULL,
    -- NULL until it is used.
    last_used_at bigint
);
CREATE INDEX api_keys_of_account ON api_keys (user_id, id);
CREATE INDEX api_keys_by_expiry ON api_keys (expires_at);
