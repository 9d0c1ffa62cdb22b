-- What a store of the first release may hold.
INSERT INTO accounts VALUES (x'0190a0b0000070008000000000000001', 'Ada', 'ada', 2, 'Ada@example.org', 'ada@example.org', 'hash', '["user"]', 1, 2);
INSERT INTO sessions VALUES (x'0190a0b0000070008000000000000002', x'0190a0b0000070008000000000000001', 'device', '192.0.2.1', x'abababababababababababababababababababababababababababababababab', 1, 2, 9000000000000, 9000000000000, 3, NULL);
UPDATE revocation_head SET number = 7;
INSERT INTO revocations VALUES (7, x'0190a0b0000070008000000000000003', 9000000000000);
INSERT INTO outbox VALUES (x'0190a0b0000070008000000000000001', 2, 'Ada', 0, '', '', 0, 5);
