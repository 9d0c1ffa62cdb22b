-- When a person was erased: NULL, but for those of whom nothing is left but the id, so that late news does not make them anew.

ALTER TABLE people ADD COLUMN erased_at INTEGER;
