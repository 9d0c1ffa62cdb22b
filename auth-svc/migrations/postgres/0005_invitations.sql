-- Invitations to register, for installations that are not open to everybody. What an invitation is known by is random and
-- kept as its hash alone.

CREATE TABLE invitations (
    id           uuid   NOT NULL PRIMARY KEY,
    -- SHA-256 of 256 random bits.
    hash         bytea  NOT NULL UNIQUE,
    note         text   NOT NULL,
    -- An actor, as the audit log names them.
    made_by_kind text   NOT NULL,
    made_by      text   NOT NULL,
    created_at   bigint NOT NULL,
    expires_at   bigint NOT NULL,
    -- NULL until it is used.
    used_at      bigint,
    used_by      uuid
);
CREATE INDEX invitations_by_expiry ON invitations (expires_at);
