-- Mails that are to go out, the tokens that their links carry, and whose address is known to be theirs.

ALTER TABLE accounts ADD COLUMN email_verified_at bigint;

-- Neither a token nor a text is here: both are made when a mail goes out. A row goes as soon as its mail has gone.
CREATE TABLE mails (
    id         uuid    NOT NULL PRIMARY KEY,
    kind       text    NOT NULL,
    -- Whose; NULL while only an address is known, which may be nobody's.
    user_id    uuid,
    -- The key of the address that was asked about; empty for the account's own.
    address    text    NOT NULL,
    -- Where it was asked for from, as JSON.
    details    text    NOT NULL,
    -- Of two with the same one, the second is not kept; NULL for any number.
    slot       text    UNIQUE,
    created_at bigint  NOT NULL,
    attempts   bigint  NOT NULL,
    due_at     bigint  NOT NULL,
    -- After this it is not sent any more.
    expires_at bigint  NOT NULL
);
CREATE INDEX mails_by_due ON mails (due_at);
CREATE INDEX mails_by_user ON mails (user_id);

CREATE TABLE mail_tokens (
    -- SHA-256 of a token that is as random as a key.
    hash       bytea   NOT NULL PRIMARY KEY,
    -- What it is good for.
    purpose    text    NOT NULL,
    user_id    uuid    NOT NULL REFERENCES accounts (id),
    -- The key of the address that it went to: it is worth nothing once the account has another one.
    address    text    NOT NULL,
    expires_at bigint  NOT NULL
);
CREATE INDEX mail_tokens_by_user ON mail_tokens (user_id);
CREATE INDEX mail_tokens_by_expiry ON mail_tokens (expires_at);

-- Mails that have been given a token or were sent lately, for the limits of how many an account and an address get, and so
-- that a mail that is sent again is no new one.
CREATE TABLE mail_records (
    id         uuid    NOT NULL PRIMARY KEY,
    user_id    uuid    NOT NULL,
    -- A keyed hash of the address.
    recipient  bytea   NOT NULL,
    -- Whether somebody asked for it, so that it counts.
    asked      boolean NOT NULL,
    at         bigint  NOT NULL,
    expires_at bigint  NOT NULL
);
CREATE INDEX mail_records_by_user ON mail_records (user_id, at);
CREATE INDEX mail_records_by_recipient ON mail_records (recipient, at);
CREATE INDEX mail_records_by_expiry ON mail_records (expires_at);
