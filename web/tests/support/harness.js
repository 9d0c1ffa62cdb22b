// What each test of the SDK begins with: a fake server, clients with short pauses, and a record of what they heard.

import { randomUUID } from 'node:crypto';
import { Switchboard } from '../../sdk/switchboard.js';
import { FakeServer } from './fake-server.js';
import { FakeNetwork, until } from './transports.js';

const EVENTS = [
  'state', 'user', 'session_ended', 'connected', 'room_reset', 'room_live', 'room_left', 'new_message',
  'members_changed', 'room_closed', 'entry', 'typing_start', 'typing_stop', 'sending', 'hole', 'error',
];

/** Clients to disconnect at the end of a test. */
export class World {
  server = new FakeServer();
  #clients = [];

  /** A client of a new user: {client, network, heard, contents}. */
  async person(options = {}) {
    const person = this.client(options);
    const username = `u-${randomUUID().slice(0, 8)}`;
    await person.client.register({ username, email: `${username}@example.org`, password: 'correct horse' });
    return { ...person, username };
  }

  /** A client that is logged in as nobody, or as what its storage says. */
  client(options = {}) {
    const network = new FakeNetwork(this.server);
    const { fetch, WebSocket } = network;
    const limits = { backoffBaseMs: 2, backoffMaxMs: 20 };
    const client = new Switchboard({ url: 'http://fake', fetch, WebSocket, ...limits, ...options });
    const heard = [];
    for (const event of EVENTS) client.on(event, (detail) => heard.push({ event, detail }));
    this.#clients.push(client);
    const of = (event) => heard.filter((each) => each.event === event).map(({ detail }) => detail);
    return { client, network, heard, of, contents: () => view(heard) };
  }

  /** A person who is online and in `general`. */
  async member(options) {
    const person = await this.person(options);
    person.client.connect();
    await person.client.join(this.server.general.id);
    return person;
  }

  /** A message that somebody else sends. */
  say(content, room = this.server.general) {
    const user = { id: 'someone', username: 'someone' };
    if (!room.members.some((each) => each.user.id === user.id)) this.server.rooms.add(room, user);
    return this.server.rooms.send(user, { roomId: room.id, content });
  }

  close() {
    for (const client of this.#clients) client.disconnect();
  }
}

/** What an application shows that replaces its view at `room_reset` and appends each `new_message`. */
function view(heard) {
  let contents = [];
  for (const { event, detail } of heard) {
    if (event === 'room_reset') contents = detail.messages.map(({ content }) => content);
    if (event === 'new_message') contents.push(detail.content);
  }
  return contents;
}

export { until };
