// Tokens are renewed in time and once; a session that has ended ends the client.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { STORAGE_KEYS, Switchboard, SwitchboardError } from '../sdk/switchboard.js';
import { Refusal } from './support/accounts.js';
import { World, until } from './support/harness.js';
import { FakeStorage } from './support/transports.js';

/** @type {World} */
let world;
beforeEach(() => (world = new World()));
afterEach(() => world.close());

const count = (call) => world.server.calls.filter((each) => each === call).length;

test('a refused registration names its fields', async () => {
  const { client } = world.client();
  const failure = await client.register({ username: 'x', email: 'x@example.org', password: 'short' }).catch((e) => e);
  assert.ok(failure instanceof SwitchboardError);
  assert.equal(failure.code, 'VALIDATION_FAILED');
  assert.equal(failure.status, 400);
  assert.deepEqual(failure.errors.map(({ field }) => field), ['username', 'password']);
  assert.equal(client.user, null);
});

test('a login is by username or by email', async () => {
  const ada = await world.person();
  const { client } = world.client();
  await client.login(ada.username, 'correct horse');
  assert.equal(client.user.id, ada.client.user.id);
  await client.login(`${ada.username}@example.org`, 'correct horse');
  assert.equal(client.user.id, ada.client.user.id);
  await assert.rejects(client.login(ada.username, 'wrong'), { code: 'INVALID_CREDENTIALS' });
});

test('a list that has not changed is not sent again, and one that has is', async () => {
  const { client, network } = world.client();
  await client.register({ username: 'lists', email: 'lists@example.org', password: 'correct horse' });
  network.sent.length = 0;
  const first = await client.api.rooms();
  const again = await client.api.rooms();
  assert.deepEqual([again, network.sent], [first, ['new', 'same']]);
  again.push('a change by the page');
  assert.deepEqual(await client.api.rooms(), first);
  const room = await client.api.createRoom('news');
  assert.deepEqual((await client.api.rooms()).map(({ id }) => id), [...first.map(({ id }) => id), room.id]);
  assert.deepEqual(network.sent, ['new', 'same', 'same', 'changed']);
  await client.logout();
  await client.register({ username: 'others', email: 'others@example.org', password: 'correct horse' });
  network.sent.length = 0;
  await client.api.rooms();
  assert.deepEqual(network.sent, ['new'], 'nothing of another person is kept');
});

test('an expired access token is renewed once for many calls', async () => {
  const ada = await world.person();
  world.server.accounts.expireAccessTokens();
  await Promise.all([ada.client.api.rooms(), ada.client.api.rooms(), ada.client.api.sessions()]);
  assert.equal(count('POST /auth/refresh'), 1);
});

test('the access token is renewed before its end without any call', async () => {
  world.server.accounts.accessLifeSecs = 1;
  const ada = await world.person();
  await until(() => count('POST /auth/refresh') >= 2);
  assert.notEqual(ada.client.user, null);
  await ada.client.logout();
});

test('a renewal that cannot reach the server ends nothing', async () => {
  const ada = await world.person();
  world.server.accounts.expireAccessTokens();
  world.server.nextCalls.set('/auth/refresh', new Refusal(503, 'UNAVAILABLE'));
  await assert.rejects(ada.client.api.rooms(), { code: 'UNAVAILABLE' });
  assert.notEqual(ada.client.user, null);
  await ada.client.api.rooms();
});

test('each connect has a WS token of its own', async () => {
  const ada = await world.member();
  ada.network.cut();
  await until(() => ada.of('connected').length === 2);
  const tokens = world.server.connects.map(({ token }) => token);
  assert.equal(new Set(tokens).size, 2);
  assert.equal(count('GET /auth/ws-token'), 2);
});

test('a refused connect is tried again with a new token', async () => {
  const ada = await world.person();
  const { spend } = world.server.accounts;
  let refusals = 2;
  world.server.accounts.spend = function (token) {
    if (refusals-- > 0) throw new Refusal(401, 'TOKEN_SPENT', 'Unauthorized');
    return spend.call(this, token);
  };
  ada.client.connect();
  await until(() => ada.client.state === 'online');
  assert.equal(world.server.connects.length, 3);
  assert.equal(ada.of('state').find(({ state }) => state === 'offline').error.code, 'TOKEN_SPENT');
});

test('a session that the server ends stops the client for good and says so', async () => {
  const storage = new FakeStorage();
  const ada = await world.member({ storage });
  const { opened } = ada.network;
  world.server.accounts.end(ada.client.sessionId);
  await until(() => ada.of('session_ended').length === 1);
  assert.deepEqual(ada.of('session_ended')[0], { code: 'TOKEN_REVOKED', message: 'This session has ended.' });
  assert.equal(ada.client.user, null);
  assert.equal(ada.client.state, 'stopped');
  assert.equal(storage.getItem(STORAGE_KEYS.session), null);
  assert.throws(() => ada.client.connect(), { code: 'NOT_LOGGED_IN' });
  assert.throws(() => ada.client.send('room', 'x'), { code: 'NOT_LOGGED_IN' });
  assert.equal(ada.network.opened, opened);
});

test('a session that ended while offline is found at the next connect', async () => {
  const ada = await world.member();
  ada.network.down = true;
  ada.network.cut();
  world.server.accounts.end(ada.client.sessionId);
  ada.network.down = false;
  await until(() => ada.of('session_ended').length === 1);
  assert.equal(ada.client.state, 'stopped');
});

test('a logout ends the session on the server and forgets it here', async () => {
  const storage = new FakeStorage();
  const outboxStorage = new FakeStorage();
  const ada = await world.member({ storage, outboxStorage });
  const { sessionId } = ada.client;
  ada.client.disconnect();
  const sending = ada.client.send(world.server.general.id, 'never');
  await ada.client.logout();
  await assert.rejects(sending.done, { code: 'SESSION_ENDED' });
  assert.throws(() => world.server.accounts.end(sessionId), { message: 'SESSION_NOT_FOUND' });
  assert.equal(storage.items.size + outboxStorage.items.size, 0);
  assert.equal(ada.of('session_ended').length, 0);
});

test('a logout that cannot be told is still one here', async () => {
  const ada = await world.member();
  ada.network.down = true;
  await assert.rejects(ada.client.logout(), { code: 'NETWORK_ERROR' });
  assert.equal(ada.client.user, null);
});

test('a reload continues the session', async () => {
  const storage = new FakeStorage();
  const ada = await world.person({ storage });
  const again = world.client({ storage });
  assert.equal(again.client.user.id, ada.client.user.id);
  await again.client.api.rooms();
});

test('a duplicated tab learns of renewed tokens before the old ones count as stolen', async () => {
  const storage = new FakeStorage();
  const ada = await world.person({ storage });
  const copy = new FakeStorage();
  copy.items = new Map(storage.items);
  const twin = world.client({ storage: copy });
  for (let round = 0; round < 4; round++) {
    await ada.client.refresh();
    await until(() => copy.getItem(STORAGE_KEYS.session) === storage.getItem(STORAGE_KEYS.session));
  }
  await twin.client.refresh();
  assert.equal(twin.of('session_ended').length, 0);
  await ada.client.logout();
  await twin.client.logout();
});

test('options are checked', () => {
  const given = { url: 'http://fake', fetch: () => {}, WebSocket: class {} };
  assert.throws(() => new Switchboard({ ...given, outboxMaximum: 1 }), /no option "outboxMaximum"/);
  assert.throws(() => new Switchboard({ ...given, outboxMax: 0 }), /positive/);
  assert.throws(() => new Switchboard({ ...given, url: 'example.org' }), /http/);
});

test('a login with a second factor goes on with its ticket, and the device is known at the next one', async () => {
  const user = { id: 'u1', username: 'ada' };
  const opened = { success: true, user, accessToken: 'a', refreshToken: 'r', expiresIn: 900, deviceToken: 'd1' };
  const mfa = { ticket: 't1', expiresIn: 300, methods: ['totp', 'recovery_code'] };
  const answers = [[401, { success: false, statusCode: 401, code: 'MFA_REQUIRED', message: 'm', mfa }], [200, opened], [200, opened]];
  const asked = [];
  const fetch = async (url, init) => {
    asked.push([new URL(url).pathname, JSON.parse(init.body)]);
    const [status, body] = answers.shift();
    return new Response(JSON.stringify(body), { status });
  };
  const deviceStorage = new FakeStorage();
  const client = new Switchboard({ url: 'http://127.0.0.1', fetch, WebSocket: class {}, deviceStorage });
  const failure = await client.login('ada', 'correct horse').catch((e) => e);
  assert.equal(failure.code, 'MFA_REQUIRED');
  assert.deepEqual(failure.mfa, mfa);
  assert.equal(client.user, null);
  await client.completeLogin(failure.mfa.ticket, '123456', { rememberDevice: true });
  assert.equal(client.user.id, 'u1');
  assert.equal(deviceStorage.getItem(STORAGE_KEYS.device), 'd1');
  client.disconnect();
  const again = new Switchboard({ url: 'http://127.0.0.1', fetch, WebSocket: class {}, deviceStorage });
  await again.login('ada', 'correct horse');
  assert.deepEqual(asked, [
    ['/api/v1/auth/login', { username: 'ada', password: 'correct horse' }],
    ['/api/v1/auth/login/mfa', { ticket: 't1', code: '123456', rememberDevice: true }],
    ['/api/v1/auth/login', { username: 'ada', password: 'correct horse', deviceToken: 'd1' }],
  ]);
});
