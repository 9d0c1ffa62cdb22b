-- Rooms, their members and their logs. Ids are UUIDs of 16 bytes; times are Unix milliseconds.
-- room_type: 1 public, 2 private, 3 direct. role: 1 member, 2 owner. kind: 1 message, 2 members, 3 updated, 4 closed.

CREATE TABLE rooms (
    id           BLOB    NOT NULL PRIMARY KEY,
    log_id       BLOB    NOT NULL,
    room_type    INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    name_key     TEXT    NOT NULL,  -- the name folded, for search and order
    description  TEXT    NOT NULL,
    created_by   BLOB,              -- null: the system
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    closed_at    INTEGER,
    member_count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX rooms_public ON rooms (name_key, id) WHERE room_type = 1 AND closed_at IS NULL;

-- What follows from the entries: who is in now.
CREATE TABLE members (
    room_id   BLOB    NOT NULL,
    user_id   BLOB    NOT NULL,
    role      INTEGER NOT NULL,
    standing  INTEGER NOT NULL,     -- the order of joining
    joined_at INTEGER NOT NULL,
    PRIMARY KEY (room_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX members_by_standing ON members (room_id, standing);
CREATE INDEX members_by_user ON members (user_id, joined_at, room_id);

-- The logs, each room's in one stretch. Rows are only ever added; erased content is blanked in place.
CREATE TABLE entries (
    room_id   BLOB    NOT NULL,
    seq       INTEGER NOT NULL,
    entry_id  BLOB    NOT NULL,
    kind      INTEGER NOT NULL,
    messages  INTEGER NOT NULL,     -- messages of the room up to and with this entry: a message's number
    at        INTEGER NOT NULL,
    sender    BLOB,                 -- of a message
    client_id TEXT,                 -- of a message
    payload   TEXT    NOT NULL,     -- JSON; its form is in store/payload.rs
    PRIMARY KEY (room_id, seq)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX entries_by_number ON entries (room_id, messages) WHERE kind = 1;
CREATE UNIQUE INDEX entries_by_client_id ON entries (room_id, sender, client_id) WHERE kind = 1;
