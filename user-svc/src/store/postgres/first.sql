-- What a store of the first release may hold.
INSERT INTO people VALUES ('0190a0b0-0000-7000-8000-000000000001', 'Ada', 2, 'Ada', NULL, 'bio', '', '{"theme":"dark"}', 1, 2);
