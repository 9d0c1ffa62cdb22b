-- The audit log. An id is a UUIDv7 of its time, so the order of ids is the order of time, and a time is a range of ids.
-- Rows are never changed; what is past the retention is forgotten.

CREATE TABLE audit (
    id         BLOB    NOT NULL PRIMARY KEY,
    at         INTEGER NOT NULL,
    event      TEXT    NOT NULL,
    succeeded  INTEGER NOT NULL,
    -- `user`, `service`, `api_key`, `operator` or `nobody`, with its id or name.
    actor_kind TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    subject_id BLOB,
    session_id BLOB,
    ip_address TEXT    NOT NULL,
    place      TEXT    NOT NULL,
    device     TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    detail     TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_of_subject ON audit (subject_id, id);
CREATE INDEX audit_of_actor ON audit (actor, id);
CREATE INDEX audit_of_event ON audit (event, id);
CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
