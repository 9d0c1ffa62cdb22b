-- Accounts, their sessions, the revocations of sessions, spent WebSocket tokens, and the outbox to user-svc.
-- Times are Unix milliseconds; a `_key` column is what makes a name unique. The tables are those of SQLite, in the
-- schema that the connection's search path names.

CREATE TABLE accounts (
    id               uuid   NOT NULL,
    username         text   NOT NULL,
    username_key     text   NOT NULL,
    -- Rises by one with each rename, so that user-svc can tell an old name from a new one.
    username_version bigint NOT NULL,
    email            text   NOT NULL,
    email_key        text   NOT NULL,
    password_hash    text   NOT NULL,
    roles            text[] NOT NULL,
    created_at       bigint NOT NULL,
    updated_at       bigint NOT NULL,
    CONSTRAINT accounts_pkey PRIMARY KEY (id),
    CONSTRAINT accounts_username_key UNIQUE (username_key),
    CONSTRAINT accounts_email_key UNIQUE (email_key)
);

CREATE TABLE sessions (
    id                uuid   NOT NULL PRIMARY KEY,
    user_id           uuid   NOT NULL REFERENCES accounts (id),
    device            text   NOT NULL,
    ip_address        text   NOT NULL,
    -- SHA-256 of the one refresh token that counts. Earlier ones are recognised by what they carry.
    refresh_hash      bytea  NOT NULL,
    created_at        bigint NOT NULL,
    last_used_at      bigint NOT NULL,
    expires_at        bigint NOT NULL,
    ends_at           bigint NOT NULL,
    -- The latest expiry among the access tokens issued so far.
    access_expires_at bigint NOT NULL,
    ended_at          bigint
);
-- Whoever looks for a user's sessions wants the living.
CREATE INDEX sessions_of_user ON sessions (user_id, last_used_at DESC, id DESC) WHERE ended_at IS NULL;
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- One row: the highest revocation number handed out. Who ends a session locks it until the commit, so numbers become
-- visible in their order. It outlives the pruning of the revocations themselves.
CREATE TABLE revocation_head (
    one    integer NOT NULL PRIMARY KEY CHECK (one = 1),
    number bigint  NOT NULL
);
INSERT INTO revocation_head (one, number) VALUES (1, 0);

CREATE TABLE revocations (
    number     bigint NOT NULL PRIMARY KEY,
    session_id uuid   NOT NULL,
    expires_at bigint NOT NULL
);
CREATE INDEX revocations_by_expiry ON revocations (expires_at);

CREATE TABLE spent_ws_tokens (
    jti        uuid   NOT NULL PRIMARY KEY,
    expires_at bigint NOT NULL
);
CREATE INDEX spent_ws_tokens_by_expiry ON spent_ws_tokens (expires_at);

CREATE TABLE outbox (
    user_id          uuid    NOT NULL REFERENCES accounts (id),
    -- Deliveries of one account go out in this order.
    username_version bigint  NOT NULL,
    username         text    NOT NULL,
    -- True for a new account, whose names go along; false for a rename.
    created          boolean NOT NULL,
    first_name       text    NOT NULL,
    last_name        text    NOT NULL,
    attempts         bigint  NOT NULL,
    due_at           bigint  NOT NULL,
    PRIMARY KEY (user_id, username_version)
);
CREATE INDEX outbox_by_due ON outbox (due_at);
