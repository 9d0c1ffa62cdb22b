-- The audit log. An id is a UUIDv7 of its time, so the order of ids is the order of time, and a time is a range of ids.
-- Rows are never changed; what is past the retention is forgotten.

CREATE TABLE audit (
    id         uuid    NOT NULL PRIMARY KEY,
    at         bigint  NOT NULL,
    -- Compared by bytes, so that a group of events is a range of names.
    event      text    COLLATE "C" NOT NULL,
    succeeded  boolean NOT NULL,
    -- `user`, `service`, `api_key`, `operator` or `nobody`, with its id or name.
    actor_kind text    NOT NULL,
    actor      text    NOT NULL,
    subject_id uuid,
    session_id uuid,
    ip_address text    NOT NULL,
    place      text    NOT NULL,
    device     text    NOT NULL,
    request_id text    NOT NULL,
    detail     text    NOT NULL
);
CREATE INDEX audit_of_subject ON audit (subject_id, id);
CREATE INDEX audit_of_actor ON audit (actor, id);
CREATE INDEX audit_of_event ON audit (event, id);
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
