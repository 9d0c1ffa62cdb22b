// Messages go out once and in order, whatever happens to their answers and to the connection.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { STORAGE_KEYS } from '../sdk/switchboard.js';
import { Refusal } from './support/accounts.js';
import { World, until } from './support/harness.js';
import { FakeStorage } from './support/transports.js';

/** @type {World} */
let world;
beforeEach(() => (world = new World()));
afterEach(() => world.close());

const room = () => world.server.general.id;
const stored = () => world.server.rooms.messages(world.server.general).map(({ content }) => content);
const numbers = (to) => Array.from({ length: to }, (_, i) => `m${i + 1}`);

test('a message is acknowledged with what was stored', async () => {
  const ada = await world.member();
  const sending = ada.client.send(room(), 'hello', { metadata: { mood: 'good' } });
  assert.equal(sending.state, 'pending');
  const message = await sending.done;
  assert.equal(message.content, 'hello');
  assert.deepEqual(message.metadata, { mood: 'good' });
  assert.equal(message.clientMessageId, sending.clientMessageId);
  assert.equal(sending.state, 'sent');
});

test('an ack that was lost leads to a retry with the same id and one message', async () => {
  const ada = await world.member({ ackTimeoutMs: 20 });
  // The live entry would settle it as well; here only the retry can.
  world.server.dropLive = () => true;
  world.server.nextSends.push('store');
  const message = await ada.client.send(room(), 'hello').done;
  assert.equal(message.content, 'hello');
  assert.deepEqual(stored(), ['hello']);
  assert.equal(world.server.sends.length, 2);
  assert.equal(world.server.sends[0].clientMessageId, world.server.sends[1].clientMessageId);
});

test('a message whose ack was lost is settled by its own entry', async () => {
  const ada = await world.member();
  world.server.nextSends.push('store');
  await ada.client.send(room(), 'hello').done;
  assert.equal(world.server.sends.length, 1);
});

test('a message whose ack was lost is settled by the page that replaces the view', async () => {
  const ada = await world.member();
  world.server.dropLive = () => true;
  world.server.nextSends.push('store', 'lose');
  const sending = ada.client.send(room(), 'hello');
  await until(() => stored().length === 1);
  world.server.rooms.restore();
  ada.network.cut();
  await until(() => sending.state === 'sent');
  assert.deepEqual(ada.contents(), ['hello']);
});

test('what is sent while offline waits and goes out in order, once', async () => {
  const ada = await world.member();
  ada.network.down = true;
  world.server.nextSends.push('store');
  ada.client.send(room(), 'm1');
  await until(() => stored().length === 1);
  ada.network.cut();
  await until(() => ada.client.state === 'offline');
  for (const content of numbers(20).slice(1)) ada.client.send(room(), content);
  assert.ok(ada.client.pending.length >= 19);
  ada.network.down = false;
  await until(() => ada.client.pending.length === 0);
  assert.deepEqual(stored(), numbers(20));
  await until(() => ada.contents().length === 20);
  assert.deepEqual(ada.contents(), numbers(20));
});

test('the order holds when the first message has to be tried again', async () => {
  const ada = await world.member();
  world.server.nextSends.push(new Refusal(503, 'UNAVAILABLE'), new Refusal(429, 'RATE_LIMITED'));
  await Promise.all(numbers(5).map((content) => ada.client.send(room(), content).done));
  assert.deepEqual(stored(), numbers(5));
  assert.equal(world.server.sends.length, 7, 'only what was refused goes out again');
});

test('connections that end in the middle of sending lose nothing and repeat nothing', async () => {
  const ada = await world.member({ sendAttemptsMax: 1000 });
  const sent = numbers(200).map((content) => ada.client.send(room(), content).done);
  for (let cuts = 0; cuts < 10; cuts++) {
    const before = stored().length;
    await until(() => stored().length > before || ada.client.pending.length === 0);
    ada.network.cut();
  }
  await Promise.all(sent);
  await until(() => ada.contents().length === 200);
  assert.deepEqual(stored(), numbers(200));
  assert.deepEqual(ada.contents(), numbers(200));
});

test('a refused message fails with its reason and holds up nobody', async () => {
  const ada = await world.member();
  const bad = ada.client.send(room(), '   ');
  const good = ada.client.send(room(), 'good');
  await assert.rejects(bad.done, { code: 'VALIDATION_FAILED' });
  assert.equal(bad.state, 'failed');
  assert.equal(bad.error.errors[0].field, 'content');
  await good.done;
});

test('a failed message can be tried again under its id', async () => {
  const ada = await world.member({ sendAttemptsMax: 2 });
  world.server.nextSends.push(new Refusal(503, 'UNAVAILABLE'), new Refusal(503, 'UNAVAILABLE'));
  const first = ada.client.send(room(), 'hello');
  await assert.rejects(first.done, { code: 'UNAVAILABLE' });
  await ada.client.send(room(), 'hello', { clientMessageId: first.clientMessageId }).done;
  assert.deepEqual(new Set(world.server.sends.map(({ clientMessageId }) => clientMessageId)).size, 1);
});

test('a message that is too large for the wire is refused here', async () => {
  const ada = await world.member();
  await assert.rejects(ada.client.send(room(), 'ü'.repeat(40_000)).done, { code: 'PAYLOAD_TOO_LARGE' });
  assert.equal(ada.client.state, 'online');
  assert.equal(world.server.sends.length, 0);
});

test('the outbox is bounded in number and in time', async () => {
  const ada = await world.person({ outboxMax: 2, sendAgeMsMax: 30 });
  const first = ada.client.send(room(), 'm1');
  ada.client.send(room(), 'm2');
  assert.throws(() => ada.client.send(room(), 'm3'), { code: 'OUTBOX_FULL' });
  await until(() => first.state === 'failed');
  assert.equal(first.error.code, 'SEND_EXPIRED');
});

test('a reload takes up what was not sent; another user does not', async () => {
  const storage = new FakeStorage();
  const outboxStorage = new FakeStorage();
  const ada = await world.member({ storage, outboxStorage });
  ada.client.disconnect();
  const { clientMessageId } = ada.client.send(room(), 'before the reload');
  const kept = outboxStorage.getItem(STORAGE_KEYS.outbox);

  const again = world.client({ storage, outboxStorage });
  assert.equal(again.client.pending[0].clientMessageId, clientMessageId);
  again.client.connect();
  await until(() => stored().length === 1);
  await until(() => outboxStorage.getItem(STORAGE_KEYS.outbox) === null);

  outboxStorage.setItem(STORAGE_KEYS.outbox, kept);
  const other = await world.person({ outboxStorage });
  assert.deepEqual(other.client.pending, []);
  assert.equal(outboxStorage.getItem(STORAGE_KEYS.outbox), null);
});

test('typing is told once in a while and ends with the message', async () => {
  const ada = await world.member();
  const bob = await world.member();
  for (let key = 0; key < 10; key++) ada.client.typing(room());
  await until(() => bob.of('typing_start').length === 1);
  ada.client.stopTyping(room());
  await until(() => bob.of('typing_stop').length === 1);
  ada.client.typing(room());
  ada.client.send(room(), 'done');
  await until(() => bob.of('typing_stop').length === 2);
  assert.equal(bob.of('typing_start').length, 2);
  assert.equal(world.server.events.filter((event) => event === 'typing_start').length, 2);
  assert.equal(bob.of('typing_start')[0].username, ada.username);
});

test('typing ends by itself when the word that it ended is lost', async () => {
  const bob = await world.member({ typingExpiryMs: 10 });
  world.server.tell(room(), 'typing_start', { roomId: room(), userId: 'x', username: 'x' });
  await until(() => bob.of('typing_stop').length === 1);
});
