-- The rooms that each person has ever been a member of, as in SQLite: where what they wrote is.

CREATE TABLE visits (
    user_id uuid NOT NULL,
    room_id uuid NOT NULL,
    PRIMARY KEY (user_id, room_id)
);

INSERT INTO visits (user_id, room_id)
SELECT sender, room_id FROM entries WHERE kind = 1
UNION
SELECT user_id, room_id FROM members;
