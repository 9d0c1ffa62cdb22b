-- What a store of the first release may hold.
INSERT INTO accounts VALUES ('0190a0b0-0000-7000-8000-000000000001', 'Ada', 'ada', 2, 'Ada@example.org', 'ada@example.org', 'hash', '{user}', 1, 2);
INSERT INTO sessions VALUES ('0190a0b0-0000-7000-8000-000000000002', '0190a0b0-0000-7000-8000-000000000001', 'device', '192.0.2.1', '\xabababababababababababababababababababababababababababababababab', 1, 2, 9000000000000, 9000000000000, 3, NULL);
UPDATE revocation_head SET number = 7;
INSERT INTO revocations VALUES (7, '0190a0b0-0000-7000-8000-000000000003', 9000000000000);
INSERT INTO outbox VALUES ('0190a0b0-0000-7000-8000-000000000001', 2, 'Ada', false, '', '', 0, 5);
