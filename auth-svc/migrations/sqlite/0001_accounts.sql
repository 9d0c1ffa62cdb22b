-- Accounts, their sessions, the revocations of sessions, spent WebSocket tokens, and the outbox to user-svc.
-- Times are Unix milliseconds; ids are the 16 bytes of a UUID; a `_key` column is what makes a name unique.

CREATE TABLE accounts (
    id               BLOB    NOT NULL PRIMARY KEY,
    username         TEXT    NOT NULL,
    username_key     TEXT    NOT NULL UNIQUE,
    -- Rises by one with each rename, so that user-svc can tell an old name from a new one.
    username_version INTEGER NOT NULL,
    email            TEXT    NOT NULL,
    email_key        TEXT    NOT NULL UNIQUE,
    password_hash    TEXT    NOT NULL,
    -- A JSON array of strings.
    roles            TEXT    NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sessions (
    id                BLOB    NOT NULL PRIMARY KEY,
    user_id           BLOB    NOT NULL REFERENCES accounts (id),
    device            TEXT    NOT NULL,
    ip_address        TEXT    NOT NULL,
    -- SHA-256 of the one refresh token that counts. Earlier ones are recognised by what they carry.
    refresh_hash      BLOB    NOT NULL,
    created_at        INTEGER NOT NULL,
    last_used_at      INTEGER NOT NULL,
    expires_at        INTEGER NOT NULL,
    ends_at           INTEGER NOT NULL,
    -- The latest expiry among the access tokens issued so far.
    access_expires_at INTEGER NOT NULL,
    ended_at          INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_of_user ON sessions (user_id, last_used_at DESC, id DESC);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- One row: the highest revocation number handed out. It outlives the pruning of the revocations themselves.
CREATE TABLE revocation_head (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL
) STRICT;
INSERT INTO revocation_head (one, number) VALUES (1, 0);

CREATE TABLE revocations (
    number     INTEGER NOT NULL PRIMARY KEY,
    session_id BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX revocations_by_expiry ON revocations (expires_at);

CREATE TABLE spent_ws_tokens (
    jti        BLOB    NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX spent_ws_tokens_by_expiry ON spent_ws_tokens (expires_at);

CREATE TABLE outbox (
    user_id          BLOB    NOT NULL REFERENCES accounts (id),
    -- Deliveries of one account go out in this order.
    username_version INTEGER NOT NULL,
    username         TEXT    NOT NULL,
    -- 1 for a new account, whose names go along; 0 for a rename.
    created          INTEGER NOT NULL,
    first_name       TEXT    NOT NULL,
    last_name        TEXT    NOT NULL,
    attempts         INTEGER NOT NULL,
    due_at           INTEGER NOT NULL,
    PRIMARY KEY (user_id, username_version)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_by_due ON outbox (due_at);
