-- Accounts that an admin has disabled, and accounts that are on their way out of every service.

ALTER TABLE accounts ADD COLUMN disabled_at INTEGER;

CREATE TABLE deletions (
    -- It refers to nothing: the row outlives the account until all services have erased it.
    user_id   BLOB    NOT NULL PRIMARY KEY,
    asked_at  INTEGER NOT NULL,
    -- From this time on it is erased; until then a login may take it back.
    erase_at  INTEGER NOT NULL,
    -- When the account itself was erased; NULL until then.
    erased_at INTEGER,
    -- Whether its profile and what the audit log tells of the person are erased.
    told      INTEGER NOT NULL,
    -- Where message-svc goes on, in its own words.
    place     TEXT    NOT NULL,
    attempts  INTEGER NOT NULL,
    due_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX deletions_by_due ON deletions (due_at);

-- Entries are still only added and forgotten, but of somebody who is deleted what tells who they were is taken out: words
-- may become empty, and nothing else may become anything.
DROP TRIGGER audit_is_append_only;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
WHEN NOT (
    NEW.id = OLD.id AND NEW.at = OLD.at AND NEW.event = OLD.event AND NEW.succeeded = OLD.succeeded
    AND NEW.actor_kind = OLD.actor_kind AND NEW.actor = OLD.actor AND NEW.subject_id IS OLD.subject_id
    AND NEW.session_id IS OLD.session_id AND NEW.request_id = OLD.request_id
    AND NEW.ip_address IN ('', OLD.ip_address) AND NEW.place IN ('', OLD.place) AND NEW.device IN ('', OLD.device)
    AND NEW.detail IN ('', OLD.detail))
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
