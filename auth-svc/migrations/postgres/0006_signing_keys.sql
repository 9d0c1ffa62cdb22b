-- The keys that sign access tokens, one after the other. All replicas share them by this table.

CREATE TABLE signing_keys (
    -- Dense from 1; of the keys that may sign, the one with the highest number does.
    number     bigint NOT NULL PRIMARY KEY,
    -- The raw public key.
    public     bytea  NOT NULL,
    -- The private key in PKCS #8, sealed by auth-svc's key; the store alone signs nothing.
    sealed     bytea  NOT NULL,
    created_at bigint NOT NULL,
    -- From this time it signs; it is known to those who verify before.
    signs_from bigint NOT NULL,
    -- From this time its tokens are good no more; NULL until the next key is there.
    leaves_at  bigint,
    -- The longest that a token of it lives.
    token_secs bigint NOT NULL
);
