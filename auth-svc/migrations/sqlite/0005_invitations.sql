-- Invitations to register, for installations that are not open to everybody. What an invitation is known by is random and
-- kept as its hash alone.

CREATE TABLE invitations (
    id           BLOB    NOT NULL PRIMARY KEY,
    -- SHA-256 of 256 random bits.
    hash         BLOB    NOT NULL UNIQUE,
    note         TEXT    NOT NULL,
    -- An actor, as the audit log names them.
    made_by_kind TEXT    NOT NULL,
    made_by      TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    -- NULL until it is used.
    used_at      INTEGER,
    used_by      BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX invitations_by_expiry ON invitations (expires_at);
