// A room is followed through losses of the connection: nothing missing, nothing twice, in order.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { World, until } from './support/harness.js';

/** @type {World} */
let world;
beforeEach(() => (world = new World()));
afterEach(() => world.close());

const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => `m${from + i}`);

async function offline(person) {
  person.network.down = true;
  person.network.cut();
  await until(() => person.client.state !== 'online');
}

test('a join without a cursor gives the newest messages and then the live ones', async () => {
  world.say('m1');
  const ada = await world.member();
  world.say('m2');
  await until(() => ada.contents().length === 2);
  assert.deepEqual(ada.contents(), ['m1', 'm2']);
  assert.equal(ada.of('hole').length, 0);
});

test('what came while offline is delivered once and in order, with the cursor in CONNECT', async () => {
  const ada = await world.member();
  world.say('m1');
  await until(() => ada.contents().length === 1);
  await offline(ada);
  numbers(2, 30).forEach((content) => world.say(content));
  ada.network.down = false;
  await until(() => ada.contents().length === 30);
  world.say('m31');
  await until(() => ada.contents().length === 31);
  assert.deepEqual(ada.contents(), numbers(1, 31));
  assert.equal(ada.of('room_reset').length, 1, 'the view is replaced at the first join only');
  assert.equal(ada.of('room_live').at(-1).recovered, true);
  assert.ok(world.server.connects.at(-1).rooms[world.server.general.id]);
});

test('a long absence is caught up in pages', async () => {
  world.server.rooms.missedMax = 7;
  const ada = await world.member();
  await offline(ada);
  numbers(1, 50).forEach((content) => world.say(content));
  ada.network.down = false;
  await until(() => ada.contents().length === 50);
  assert.deepEqual(ada.contents(), numbers(1, 50));
  assert.equal(ada.of('room_reset').length, 1);
});

test('a cursor that no longer holds replaces the view', async () => {
  const ada = await world.member();
  world.say('m1');
  await until(() => ada.contents().length === 1);
  await offline(ada);
  world.server.rooms.restore();
  world.say('m2');
  ada.network.down = false;
  await until(() => ada.of('room_reset').length === 2);
  assert.deepEqual(ada.contents(), ['m1', 'm2']);
  assert.equal(ada.of('room_live').at(-1).recovered, false);
});

test('an entry that was not delivered is noticed at the next one and fetched', async () => {
  const ada = await world.member();
  world.say('m1');
  await until(() => ada.contents().length === 1);
  world.server.dropLive = (_, { data }) => data.content === 'm2';
  numbers(2, 5).forEach((content) => world.say(content));
  await until(() => ada.contents().length === 5);
  assert.deepEqual(ada.contents(), numbers(1, 5));
  assert.equal(ada.of('hole').length, 1);
  assert.equal(ada.of('room_reset').length, 1);
});

test('a hole right after the first page is noticed too', async () => {
  world.say('m1');
  const ada = await world.member();
  world.server.dropLive = (_, { data }) => data.content === 'm2';
  numbers(2, 3).forEach((content) => world.say(content));
  await until(() => ada.contents().length === 3);
  assert.deepEqual(ada.contents(), numbers(1, 3));
});

test('an entry that comes twice is shown once', async () => {
  const ada = await world.member();
  const message = world.say('m1');
  const { seq } = message;
  world.server.tell(world.server.general.id, 'new_message', { ...message, cursor: world.server.rooms.cursor(seq) });
  world.say('m2');
  await until(() => ada.contents().includes('m2'));
  assert.deepEqual(ada.contents(), ['m1', 'm2']);
});

test('a log that stays torn is begun anew instead of being asked for ever', async () => {
  const ada = await world.member({ holesMax: 2 });
  world.say('m1');
  await until(() => ada.contents().length === 1);
  // The server has lost an entry for good: no join can bring it.
  const { general } = world.server;
  general.log.push({ event: 'new_message', data: { ...general.log.at(-1).data, seq: 99, content: 'torn' } });
  world.server.tell(general.id, 'new_message', general.log.at(-1).data);
  await until(() => ada.of('room_reset').length === 2);
  assert.equal(ada.contents().at(-1), 'torn');
});

test('garbage as a cursor costs the recovery and not the room', async () => {
  world.say('m1');
  const ada = await world.person();
  ada.client.connect();
  await ada.client.join(world.server.general.id, { cursor: 'garbage' });
  assert.deepEqual(ada.contents(), ['m1']);
});

test('a cursor of an earlier page continues it', async () => {
  const ada = await world.member();
  world.say('m1');
  await until(() => ada.contents().length === 1);
  const cursor = ada.client.cursorOf(world.server.general.id);
  ada.client.leave(world.server.general.id);
  numbers(2, 4).forEach((content) => world.say(content));
  await ada.client.join(world.server.general.id, { cursor });
  assert.deepEqual(ada.contents(), numbers(1, 4));
  assert.equal(ada.of('room_reset').length, 1);
});

test('a connection that has gone silent is given up and resumed', async () => {
  world.server.pingIntervalMs = 20;
  world.server.pingTimeoutMs = 20;
  const ada = await world.member();
  ada.network.deaf = true;
  world.say('m1');
  await until(() => ada.client.state !== 'online');
  ada.network.deaf = false;
  await until(() => ada.contents().length === 1);
  assert.deepEqual(ada.contents(), ['m1']);
  assert.equal(ada.of('state').find(({ state }) => state === 'offline').error.code, 'TIMEOUT');
});

test('entries of a kind that is not known yet count and are passed on', async () => {
  const ada = await world.member();
  world.server.rooms.append(world.server.general, 'message_pinned', () => ({ messageId: 'x' }));
  world.say('m1');
  await until(() => ada.contents().length === 1);
  assert.equal(ada.of('hole').length, 0);
  assert.ok(ada.of('entry').some(({ event }) => event === 'message_pinned'));
});

test('whoever is removed hears it and follows the room no more', async () => {
  const room = world.server.rooms.create('secret', 'private', undefined);
  const ada = await world.person();
  world.server.rooms.add(room, ada.client.user);
  ada.client.connect();
  await ada.client.join(room.id);
  world.server.rooms.remove(room, ada.client.user.id);
  await until(() => ada.of('room_left').length === 1);
  assert.equal(ada.of('room_left')[0].reason, 'removed');
  assert.equal(ada.of('members_changed').at(-1).removed[0], ada.client.user.id);
  assert.deepEqual(ada.client.roomIds, []);
});

test('a room that was lost while offline is given up', async () => {
  const room = world.server.rooms.create('secret', 'private', undefined);
  const ada = await world.person();
  world.server.rooms.add(room, ada.client.user);
  ada.client.connect();
  await ada.client.join(room.id);
  await offline(ada);
  world.server.rooms.close(room);
  ada.network.down = false;
  await until(() => ada.of('room_left').length === 1);
  assert.equal(ada.of('room_left')[0].error.code, 'ROOM_NOT_FOUND');
});

test('joining past the limit is refused at once', async () => {
  const ada = await world.person({ roomsMax: 1 });
  ada.client.connect();
  await ada.client.join(world.server.general.id);
  await assert.rejects(ada.client.join('another'), { code: 'LIMIT_REACHED' });
});
