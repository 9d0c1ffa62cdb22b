-- The keys that sign access tokens, one after the other. All replicas share them by this table.

CREATE TABLE signing_keys (
    -- Dense from 1; of the keys that may sign, the one with the highest number does.
    number     INTEGER NOT NULL PRIMARY KEY,
    -- The raw public key.
    public     BLOB    NOT NULL,
    -- The private key in PKCS #8, sealed by auth-svc's key; the store alone signs nothing.
    sealed     BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    -- From this time it signs; it is known to those who verify before.
    signs_from INTEGER NOT NULL,
    -- From this time its tokens are good no more; NULL until the next key is there.
    leaves_at  INTEGER,
    -- The longest that a token of it lives.
    token_secs INTEGER NOT NULL
) STRICT;
