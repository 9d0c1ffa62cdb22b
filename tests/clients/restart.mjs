// The stock Socket.IO client across a gateway that is killed and started again: rooms in `auth` are resumed by cursor as
// part of the connection.
//
// From the environment: URL, ROOM, ADA (an access token), MARKS (a file to make once connected).

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { io } from "socket.io-client";

const { URL: url, ROOM: roomId, ADA, MARKS } = process.env;
let cursor;
const auth = async (give) => {
  try {
    const answer = await fetch(`${url}/api/auth/ws-token`, { headers: { authorization: `Bearer ${ADA}` } });
    give({ token: (await answer.json()).token, ...(cursor ? { rooms: { [roomId]: cursor } } : {}) });
  } catch {
    // The gateway is away: the client tries again after the connection has failed, too.
    give({});
  }
};
const socket = io(url, { path: "/socket", auth, transports: ["websocket"], reconnectionDelay: 50, reconnectionDelayMax: 300 });
setTimeout(() => {
  console.error("not done within 60 s");
  process.exit(1);
}, 60_000).unref();

const refusedTwice = [];
socket.on("connect_error", (error) => {
  refusedTwice.push(error.message);
  // A refusal by the server (here: without a token) is not retried by the client itself.
  if (!socket.active) setTimeout(() => socket.connect(), 100);
});
socket.once("connect", async () => {
  const ack = await socket.emitWithAck("join_room", { roomId });
  assert.equal(ack.success, true, JSON.stringify(ack));
  cursor = ack.cursor;
  writeFileSync(MARKS, "connected");
});
socket.on("room_joined", (answer) => {
  assert.equal(answer.success, true, JSON.stringify(answer));
  assert.equal(answer.recovered, true, JSON.stringify(answer));
  assert.deepEqual(answer.missed.map(({ data }) => data.content), ["while the gateway was away"]);
  console.log(`resumed after ${refusedTwice.length} failed tries`);
  socket.disconnect();
  process.exit(0);
});
