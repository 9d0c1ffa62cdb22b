-- What a store of the first release may hold.
INSERT INTO people VALUES (x'0190a0b0000070008000000000000001', 'Ada', 2, 'Ada', NULL, 'bio', '', '{"theme":"dark"}', 1, 2);
