-- The rooms that each person has ever been a member of: where what they wrote is. It costs a row at a first join and
-- nothing at a send; within a room, messages are found by sender through entries_by_client_id.

CREATE TABLE visits (
    user_id BLOB NOT NULL,
    room_id BLOB NOT NULL,
    PRIMARY KEY (user_id, room_id)
) STRICT, WITHOUT ROWID;

INSERT INTO visits (user_id, room_id)
SELECT sender, room_id FROM entries WHERE kind = 1
UNION
SELECT user_id, room_id FROM members;
