-- Second factors: the secret of an authenticator app, the codes for the day on which it is lost, and the devices that
-- need not give one.

CREATE TABLE totp_factors (
    user_id       BLOB    NOT NULL PRIMARY KEY REFERENCES accounts (id),
    -- Sealed by auth-svc's key for this account; the store alone gives away no code.
    sealed_secret BLOB    NOT NULL,
    created_at    INTEGER NOT NULL,
    -- NULL until a code has shown that an app has it; before that it asks nobody for anything.
    confirmed_at  INTEGER,
    -- The highest time step whose code was used: each code is good once.
    last_step     INTEGER NOT NULL,
    -- Tries since the last good code, and until when there are no more.
    failures      INTEGER NOT NULL,
    held_until    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE recovery_codes (
    user_id BLOB NOT NULL REFERENCES accounts (id),
    -- A keyed hash. A code that was used is gone.
    hash    BLOB NOT NULL,
    PRIMARY KEY (user_id, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE trusted_devices (
    user_id    BLOB    NOT NULL REFERENCES accounts (id),
    device_id  BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, device_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX trusted_devices_by_expiry ON trusted_devices (expires_at);
