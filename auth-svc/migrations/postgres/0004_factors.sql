-- Second factors: the secret of an authenticator app, the codes for the day on which it is lost, and the devices that
-- need not give one.

CREATE TABLE totp_factors (
    user_id       uuid   NOT NULL PRIMARY KEY REFERENCES accounts (id),
    -- Sealed by auth-svc's key for this account; the store alone gives away no code.
    sealed_secret bytea  NOT NULL,
    created_at    bigint NOT NULL,
    -- NULL until a code has shown that an app has it; before that it asks nobody for anything.
    confirmed_at  bigint,
    -- The highest time step whose code was used: each code is good once.
    last_step     bigint NOT NULL,
    -- Tries since the last good code, and until when there are no more.
    failures      bigint NOT NULL,
    held_until    bigint NOT NULL
);

CREATE TABLE recovery_codes (
    user_id uuid  NOT NULL REFERENCES accounts (id),
    -- A keyed hash. A code that was used is gone.
    hash    bytea NOT NULL,
    PRIMARY KEY (user_id, hash)
);

CREATE TABLE trusted_devices (
    user_id    uuid   NOT NULL REFERENCES accounts (id),
    device_id  uuid   NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (user_id, device_id)
);
CREATE INDEX trusted_devices_by_expiry ON trusted_devices (expires_at);
