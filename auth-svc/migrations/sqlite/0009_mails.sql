-- Mails that are to go out, the tokens that their links carry, and whose address is known to be theirs.

ALTER TABLE accounts ADD COLUMN email_verified_at INTEGER;

-- Neither a token nor a text is here: both are made when a mail goes out. A row goes as soon as its mail has gone.
CREATE TABLE mails (
    id         BLOB    NOT NULL PRIMARY KEY,
    kind       TEXT    NOT NULL,
    -- Whose; NULL while only an address is known, which may be nobody's.
    user_id    BLOB,
    -- The key of the address that was asked about; empty for the account's own.
    address    TEXT    NOT NULL,
    -- Where it was asked for from, as JSON.
    details    TEXT    NOT NULL,
    -- Of two with the same one, the second is not kept; NULL for any number.
    slot       TEXT    UNIQUE,
    created_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    -- After this it is not sent any more.
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX mails_by_due ON mails (due_at);
CREATE INDEX mails_by_user ON mails (user_id);

CREATE TABLE mail_tokens (
    -- SHA-256 of a token that is as random as a key.
    hash       BLOB    NOT NULL PRIMARY KEY,
    -- What it is good for.
    purpose    TEXT    NOT NULL,
    user_id    BLOB    NOT NULL REFERENCES accounts (id),
    -- The key of the address that it went to: it is worth nothing once the account has another one.
    address    TEXT    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX mail_tokens_by_user ON mail_tokens (user_id);
CREATE INDEX mail_tokens_by_expiry ON mail_tokens (expires_at);

-- Mails that have been given a token or were sent lately, for the limits of how many an account and an address get, and so
-- that a mail that is sent again is no new one.
CREATE TABLE mail_records (
    id         BLOB    NOT NULL PRIMARY KEY,
    user_id    BLOB    NOT NULL,
    -- A keyed hash of the address.
    recipient  BLOB    NOT NULL,
    -- Whether somebody asked for it, so that it counts.
    asked      INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX mail_records_by_user ON mail_records (user_id, at);
CREATE INDEX mail_records_by_recipient ON mail_records (recipient, at);
CREATE INDEX mail_records_by_expiry ON mail_records (expires_at);
