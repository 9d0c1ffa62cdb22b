// The stock Socket.IO client, used as its documentation says: `auth` is a function that fetches a fresh token for every
// connection. Two people talk; one goes away in the middle, comes back by itself and resumes by cursor.
//
// From the environment: URL, TRANSPORTS (comma separated), ROOM, ADA and BOB (access tokens).

import assert from "node:assert/strict";
import { io } from "socket.io-client";

const { URL: url, TRANSPORTS, ROOM: roomId, ADA, BOB } = process.env;
const transports = TRANSPORTS.split(",");
const LIMIT_MS = 30_000;

function connect(access) {
  const auth = async (give) => {
    const answer = await fetch(`${url}/api/auth/ws-token`, { headers: { authorization: `Bearer ${access}` } });
    give({ token: (await answer.json()).token });
  };
  return io(url, { path: "/socket", auth, transports, forceNew: true, reconnectionDelay: 50, reconnectionDelayMax: 200 });
}

function once(socket, event) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event} within ${LIMIT_MS} ms`)), LIMIT_MS);
    socket.once(event, (value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
}

const call = (socket, event, payload) => socket.timeout(LIMIT_MS).emitWithAck(event, payload);

const ada = connect(ADA);
const greeting = await once(ada, "connected");
assert.equal(typeof greeting.userId, "string");
const bob = connect(BOB);
await once(bob, "connect");

const joined = await call(ada, "join_room", { roomId });
assert.equal(joined.success, true, JSON.stringify(joined));
assert.equal(joined.recovered, false);
let cursor = joined.cursor;
const seen = [];
ada.on("new_message", (message) => {
  seen.push(message);
  cursor = message.cursor;
});
assert.equal((await call(bob, "join_room", { roomId })).success, true);

for (const content of ["one", "two"]) {
  const ack = await call(bob, "send_message", { roomId, content, clientMessageId: content });
  assert.equal(ack.success, true, JSON.stringify(ack));
  assert.equal(ack.message.content, content);
}
while (seen.length < 2) await once(ada, "new_message");
const refused = await call(bob, "send_message", { roomId, content: "" });
assert.equal(refused.code, "VALIDATION_FAILED");
assert.equal(refused.errors[0].field, "content");

// The connection breaks under the client; it comes back by itself with a fresh token.
const back = once(ada, "connect");
const gone = once(ada, "disconnect");
ada.io.engine.close();
await gone;
assert.equal((await call(bob, "send_message", { roomId, content: "while away" })).success, true);
await back;
const resumed = await call(ada, "join_room", { roomId, cursor });
assert.equal(resumed.recovered, true, JSON.stringify(resumed));
assert.equal(resumed.more, false);
for (const { event, data } of resumed.missed) if (event === "new_message") seen.push(data);
const live = once(ada, "new_message");
assert.equal((await call(bob, "send_message", { roomId, content: "three" })).success, true);
await live;

assert.deepEqual(seen.map((message) => message.content), ["one", "two", "while away", "three"]);
for (let i = 1; i < seen.length; i++) assert.equal(seen[i].seq, seen[i - 1].seq + 1);
const transport = ada.io.engine.transport.name;
if (transports.length === 1) assert.equal(transport, transports[0]);

// Without a good token the refusal is an error object.
const stranger = io(url, { path: "/socket", auth: { token: "nonsense" }, transports, forceNew: true, reconnection: false });
const error = await once(stranger, "connect_error");
assert.equal(error.data?.code, "TOKEN_INVALID", String(error));

for (const socket of [ada, bob, stranger]) socket.disconnect();
console.log(`talked, came back and resumed over ${transport}`);
