-- What a session knows of itself: roughly where it was opened, and when and how it last proved whose it is.

ALTER TABLE sessions ADD COLUMN place text NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN authenticated_at bigint NOT NULL DEFAULT 0;
-- Names of RFC 8176, separated by spaces.
ALTER TABLE sessions ADD COLUMN amr text NOT NULL DEFAULT 'pwd';
UPDATE sessions SET authenticated_at = created_at;
