-- A table of the tests.
CREATE TABLE notes (
    id   bigint NOT NULL PRIMARY KEY,
    text text   NOT NULL CONSTRAINT notes_text_key UNIQUE
);
