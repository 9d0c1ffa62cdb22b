-- Accounts that an admin has disabled, and accounts that are on their way out of every service.

ALTER TABLE accounts ADD COLUMN disabled_at bigint;

CREATE TABLE deletions (
    -- It refers to nothing: the row outlives the account until all services have erased it.
    user_id   uuid    NOT NULL PRIMARY KEY,
    asked_at  bigint  NOT NULL,
    -- From this time on it is erased; until then a login may take it back.
    erase_at  bigint  NOT NULL,
    -- When the account itself was erased; NULL until then.
    erased_at bigint,
    -- Whether its profile and what the audit log tells of the person are erased.
    told      boolean NOT NULL,
    -- Where message-svc goes on, in its own words.
    place     text    NOT NULL,
    attempts  bigint  NOT NULL,
    due_at    bigint  NOT NULL
);
CREATE INDEX deletions_by_due ON deletions (due_at);

-- Entries are still only added and forgotten, but of somebody who is deleted what tells who they were is taken out: words
-- may become empty, and nothing else may become anything.
CREATE OR REPLACE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF ROW(NEW.id, NEW.at, NEW.event, NEW.succeeded, NEW.actor_kind, NEW.actor, NEW.subject_id, NEW.session_id,
           NEW.request_id)
       IS NOT DISTINCT FROM
       ROW(OLD.id, OLD.at, OLD.event, OLD.succeeded, OLD.actor_kind, OLD.actor, OLD.subject_id, OLD.session_id,
           OLD.request_id)
       AND NEW.ip_address IN ('', OLD.ip_address) AND NEW.place IN ('', OLD.place)
       AND NEW.device IN ('', OLD.device) AND NEW.detail IN ('', OLD.detail) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;

-- Of ended sessions too: an account goes with all of them, and the table is not read for it.
CREATE INDEX sessions_by_user ON sessions (user_id);
