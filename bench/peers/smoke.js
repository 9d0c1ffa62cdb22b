// Tries peers with the stock Socket.IO client, so that a figure never comes from a peer that does not do its work:
//
//   node smoke.js node socketioxide preframed nestjs
//
// Each peer is started by bench/peers/start, is asked for what the scenarios ask for, and is ended by SIGTERM. nestjs
// needs DATABASE_URL and REDIS_URL.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';

const WAIT_MS = 10_000;
const MESSAGES = 200;

async function start(name) {
  const child = spawn(new URL('start', import.meta.url).pathname, [name], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, PORT: '0' },
  });
  const lines = [];
  const output = createInterface({ input: child.stdout });
  output.on('line', (line) => lines.push(line));
  await Promise.race([
    once(output, 'line'),
    once(child, 'exit').then(([code]) => assert.fail(`${name} ended with ${code} before it was ready`)),
  ]);
  const url = lines[0].match(/^READY (http:\/\/127\.0\.0\.1:\d+)$/)?.[1];
  assert(url, `the line is ${lines[0]}`);
  return { child, lines, url };
}

function connect(url, auth) {
  return new Promise((resolve, reject) => {
    const socket = io(url, { path: '/socket', transports: ['websocket'], auth, forceNew: true, reconnection: false });
    socket.once('connect', () => resolve(socket));
    socket.once('connect_error', reject);
  });
}

// The messages that a socket gets, and a promise of so many of them.
function messages(socket) {
  const got = [];
  return {
    got,
    all: new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${got.length} of ${MESSAGES} messages came`)), WAIT_MS);
      socket.on('new_message', (message) => {
        got.push(message);
        if (got.length === MESSAGES) {
          clearTimeout(late);
          resolve(got);
        }
      });
    }),
  };
}

// One client sends a burst; it and another get all of it, and every send is acknowledged with its message.
async function talk(roomId, alice, bob) {
  for (const socket of [alice, bob]) {
    const joined = await socket.timeout(WAIT_MS).emitWithAck('join_room', { roomId });
    assert.equal(joined.success, true, JSON.stringify(joined));
    assert.equal(joined.room.id, roomId);
  }
  const [seen, heard] = [messages(alice), messages(bob)];
  const acks = await Promise.all(
    Array.from({ length: MESSAGES }, (_, n) =>
      alice.timeout(WAIT_MS).emitWithAck('send_message', { roomId, content: `message ${n}`, clientMessageId: `id-${n}` }),
    ),
  );
  await Promise.all([seen.all, heard.all]);
  acks.forEach((ack, n) => {
    assert.equal(ack.success, true, JSON.stringify(ack));
    assert.equal(ack.message.content, `message ${n}`);
    assert.equal(ack.message.roomId, roomId);
    assert.equal(typeof ack.message.seq, 'number');
  });
  const ids = acks.map((ack) => ack.message.id).sort();
  assert.equal(new Set(ids).size, MESSAGES);
  for (const { got } of [seen, heard]) {
    assert.deepEqual(got.map((message) => message.id).sort(), ids);
  }
}

async function refused(socket, roomId) {
  const foreign = await socket.timeout(WAIT_MS).emitWithAck('send_message', { roomId, content: 'x' });
  assert.equal(foreign.success, false);
  const empty = await socket.timeout(WAIT_MS).emitWithAck('join_room', {});
  assert.equal(empty.success, false);
}

async function inMemory({ url }) {
  const [alice, bob] = [await connect(url, { token: 'any' }), await connect(url, { token: 'any' })];
  await talk('room-1', alice, bob);
  await refused(bob, 'room-2');
  alice.close();
  bob.close();
}

async function call(url, method, path, { token, body } = {}) {
  const response = await fetch(url + path, {
    method,
    headers: {
      ...(body && { 'content-type': 'application/json' }),
      ...(token && { authorization: `Bearer ${token}` }),
    },
    body: body && JSON.stringify(body),
  });
  return { status: response.status, ...(await response.json()) };
}

async function account(url, name) {
  const username = `${name}-${Date.now()}`;
  const body = { username, email: `${username}@example.com`, password: 'correct horse' };
  const registered = await call(url, 'POST', '/api/auth/register', { body });
  assert.equal(registered.status, 201, JSON.stringify(registered));
  const again = await call(url, 'POST', '/api/auth/register', { body });
  assert.equal(again.status, 400);
  assert.equal((await call(url, 'POST', '/api/auth/login', { body: { ...body, password: 'wrong horse' } })).status, 401);
  const login = await call(url, 'POST', '/api/auth/login', { body });
  assert.equal(login.status, 200, JSON.stringify(login));
  const token = login.accessToken;
  const profile = await call(url, 'GET', '/api/auth/profile', { token });
  assert.equal(profile.user.username, username);
  assert.equal((await call(url, 'GET', '/api/auth/profile')).status, 401);
  const ws = await call(url, 'GET', '/api/auth/ws-token', { token });
  return { token, socket: await connect(url, { token: ws.token }), id: profile.user.id };
}

async function withAccounts({ url }) {
  await assert.rejects(connect(url, { token: 'no token' }));
  const [alice, bob] = [await account(url, 'alice'), await account(url, 'bob')];
  const made = await call(url, 'POST', '/api/rooms', { token: alice.token, body: { name: 'a room', roomType: 'public' } });
  assert.equal(made.status, 201, JSON.stringify(made));
  const roomId = made.room.id;
  const [other] = [await call(url, 'POST', '/api/rooms', { token: alice.token, body: { name: 'another', roomType: 'private' } })];
  await refused(bob.socket, other.room.id);
  assert.equal((await call(url, 'POST', `/api/rooms/${other.room.id}/join`, { token: bob.token })).status, 404);
  assert.equal((await call(url, 'POST', `/api/rooms/${roomId}/join`, { token: bob.token })).status, 200);
  await talk(roomId, alice.socket, bob.socket);

  const rooms = await call(url, 'GET', '/api/rooms', { token: bob.token });
  assert.deepEqual(rooms.rooms.map((room) => [room.id, room.memberCount]), [[roomId, 2]]);
  const body = { content: 'by REST', clientMessageId: 'once' };
  const sent = await call(url, 'POST', `/api/rooms/${roomId}/messages`, { token: bob.token, body });
  assert.equal(sent.status, 201, JSON.stringify(sent));
  const repeated = await call(url, 'POST', `/api/rooms/${roomId}/messages`, { token: bob.token, body });
  assert.deepEqual([repeated.status, repeated.data.id], [200, sent.data.id]);

  const page = await call(url, 'GET', `/api/rooms/${roomId}/messages?limit=50`, { token: bob.token });
  assert.equal(page.pagination.totalItems, MESSAGES + 1);
  assert.equal(page.messages.length, 50);
  assert.equal(page.messages.at(-1).id, sent.data.id);
  const before = await call(url, 'GET', `/api/rooms/${roomId}/messages?before=${page.messages[0].seq}&limit=10`, { token: bob.token });
  assert.equal(before.messages.length, 10);
  assert(before.messages.at(-1).seq < page.messages[0].seq);
  alice.socket.close();
  bob.socket.close();
}

for (const name of process.argv.slice(2)) {
  const peer = await start(name);
  try {
    await (name === 'nestjs' ? withAccounts(peer) : inMemory(peer));
    peer.child.kill('SIGTERM');
    const late = setTimeout(() => peer.child.kill('SIGKILL'), WAIT_MS);
    const [code] = await once(peer.child, 'exit');
    clearTimeout(late);
    assert.equal(code, 0, 'SIGTERM ends a peer in good order');
    assert.equal(peer.lines.length, 1, 'READY is the only line');
  } finally {
    peer.child.kill('SIGKILL');
  }
  console.log(`${name}: good`);
}
