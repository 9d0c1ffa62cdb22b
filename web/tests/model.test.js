// What the page shows of its rooms, without a page: unread counts, order, what waits, what is let go.

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Model } from '../app/model.js';
import { Refusal } from './support/accounts.js';
import { World, until } from './support/harness.js';

/** @type {World} */
let world;
beforeEach(() => (world = new World()));
afterEach(() => world.close());

/** The marks of a device that knows the user. */
class Marks {
  fresh = false;
  marks = {};
  of(roomId) {
    return this.marks[roomId];
  }
  set(roomId, seq) {
    this.marks[roomId] = Math.max(seq, this.marks[roomId] ?? 0);
  }
  reload() {}
}

async function page(options) {
  const person = await world.person(options);
  const marks = new Marks();
  const model = new Model(person.client, marks, () => {});
  world.server.rooms.enter(world.server.general, person.client.user);
  person.client.connect();
  model.setRooms(await person.client.api.rooms());
  const view = await until(() => model.rooms.get(world.server.general.id));
  await until(() => view.live);
  return { ...person, model, view, marks, id: world.server.general.id };
}

const contents = ({ messages }) => messages.map(({ content }) => content);

test('messages of others count as unread until the room is read', async () => {
  const { model, view, client, id } = await page();
  world.say('one');
  world.say('two');
  await client.send(id, 'mine').done;
  await until(() => view.messages.length === 3);
  assert.deepEqual(model.unread(view), { count: 2, more: false });
  model.open(id);
  assert.equal(model.unread(view).count, 2, 'open is not read');
  model.setReading(true);
  assert.equal(model.unread(view).count, 0);
  world.say('three');
  await until(() => view.messages.length === 4);
  assert.equal(model.unread(view).count, 0, 'read as it comes');
});

test('a device that meets a user for the first time calls nothing unread', async () => {
  world.say('old');
  const person = await world.person();
  world.server.rooms.enter(world.server.general, person.client.user);
  const marks = Object.assign(new Marks(), { fresh: true });
  const model = new Model(person.client, marks, () => {});
  person.client.connect();
  model.setRooms(await person.client.api.rooms());
  const view = await until(() => model.rooms.get(world.server.general.id));
  await until(() => view.live);
  assert.equal(model.unread(view).count, 0);
});

test('a message of ours is there once, from pending to sent', async () => {
  const { view, client, id } = await page();
  const sending = client.send(id, 'mine');
  assert.deepEqual(view.waiting, [sending]);
  await sending.done;
  await until(() => view.messages.length === 1 && view.waiting.length === 0);
  world.say('after');
  await until(() => view.messages.length === 2);
  assert.deepEqual(contents(view), ['mine', 'after']);
});

test('a failed message stays to be tried again, as the same one', async () => {
  const { view, client, id, model } = await page();
  world.server.nextSends.push(new Refusal(403, 'FORBIDDEN'));
  const failed = client.send(id, 'mine');
  await until(() => failed.state === 'failed');
  assert.equal(view.waiting[0], failed);
  model.retry(failed);
  await until(() => view.messages.length === 1);
  assert.deepEqual(view.waiting, []);
  assert.equal(view.messages[0].clientMessageId, failed.clientMessageId);
});

test('older messages join on without a hole and without one twice', async () => {
  for (let i = 1; i <= 130; i++) world.say(`m${i}`);
  const { view, model, id } = await page();
  assert.equal(view.messages.length, 50);
  await Promise.all([model.loadOlder(id), model.loadOlder(id)]);
  await model.loadOlder(id);
  await model.loadOlder(id);
  assert.deepEqual(contents(view), Array.from({ length: 130 }, (_, i) => `m${i + 1}`));
  assert.equal(view.hasOlder, false);
});

test('a room that nobody looks at keeps a window of its messages', async () => {
  const { view } = await page();
  for (let i = 1; i <= 300; i++) world.say(`m${i}`);
  await until(() => view.messages.at(-1)?.content === 'm300');
  assert.equal(view.messages.length, 200);
  assert.equal(view.hasOlder, true);
});

test('who types is known by room, and no more once the connection is gone', async () => {
  const { view, network, id } = await page();
  world.server.tell(id, 'typing_start', { roomId: id, userId: 'x', username: 'Xaver' });
  await until(() => view.typists.get('x') === 'Xaver');
  network.down = true;
  network.cut();
  await until(() => view.typists.size === 0);
});

test('a room that the user was removed from is gone from the list', async () => {
  const { model, client, id } = await page();
  world.server.rooms.remove(world.server.general, client.user.id);
  await until(() => !model.rooms.has(id));
});
