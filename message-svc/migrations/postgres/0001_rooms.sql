-- Rooms, their members and their logs, as in SQLite, in the schema that the connection's search path names. Times are
-- Unix milliseconds. Text that is compared is compared by its bytes, whatever the database's locale.
-- room_type: 1 public, 2 private, 3 direct. role: 1 member, 2 owner. kind: 1 message, 2 members, 3 updated, 4 closed.

CREATE TABLE rooms (
    id           uuid     NOT NULL PRIMARY KEY,
    log_id       uuid     NOT NULL,
    room_type    smallint NOT NULL,
    name         text     NOT NULL,
    name_key     text     NOT NULL COLLATE "C",  -- the name folded, for search and order
    description  text     NOT NULL,
    created_by   uuid,                           -- null: the system
    created_at   bigint   NOT NULL,
    updated_at   bigint   NOT NULL,
    closed_at    bigint,
    member_count bigint   NOT NULL
);

CREATE INDEX rooms_public ON rooms (name_key, id) WHERE room_type = 1 AND closed_at IS NULL;

-- What follows from the entries: who is in now.
CREATE TABLE members (
    room_id   uuid     NOT NULL,
    user_id   uuid     NOT NULL,
    role      smallint NOT NULL,
    standing  bigint   NOT NULL,                 -- the order of joining
    joined_at bigint   NOT NULL,
    PRIMARY KEY (room_id, user_id)
);

CREATE UNIQUE INDEX members_by_standing ON members (room_id, standing);
CREATE INDEX members_by_user ON members (user_id, joined_at, room_id);

-- The logs. Rows are only ever added; erased content is blanked in place.
CREATE TABLE entries (
    room_id   uuid     NOT NULL,
    seq       bigint   NOT NULL,
    entry_id  uuid     NOT NULL,
    kind      smallint NOT NULL,
    messages  bigint   NOT NULL,                 -- messages of the room up to and with this entry: a message's number
    at        bigint   NOT NULL,
    sender    uuid,                              -- of a message
    client_id text     COLLATE "C",              -- of a message
    payload   text     NOT NULL,                 -- JSON; its form is in store/payload.rs
    PRIMARY KEY (room_id, seq)
);

CREATE UNIQUE INDEX entries_by_number ON entries (room_id, messages) WHERE kind = 1;
CREATE UNIQUE INDEX entries_by_client_id ON entries (room_id, sender, client_id) WHERE kind = 1;
