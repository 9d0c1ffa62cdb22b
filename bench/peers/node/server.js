// Bare Node: socket.io and Express in one process, rooms in memory, nothing stored and nobody checked.
//
// It is the least that a Node service with Socket.IO does for a message: parse it, number it, broadcast it, acknowledge it.
// The settings are those of Socket.IO's own page on performance; bench/peers/README.md says which and why.

import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import express from 'express';
import { Server } from 'socket.io';

process.env.NODE_ENV ??= 'production';

const app = express();
app.disable('x-powered-by');
app.get('/health', (_request, response) => {
  response.json({ status: 'ok' });
});

const http = createServer(app);
const io = new Server(http, {
  path: '/socket',
  transports: ['websocket'],
  perMessageDeflate: false,
  serveClient: false,
  maxHttpBufferSize: 64 * 1024,
});

// The handshake's request is of no use once the socket is open; socket.io keeps it alive unless told not to.
io.engine.on('connection', (socket) => {
  socket.request = null;
});

// Room id → number of its last message.
const sequences = new Map();

function refusal(code, message) {
  return { success: false, statusCode: 400, code, message };
}

io.on('connection', (socket) => {
  const userId = socket.id;

  socket.on('join_room', (payload, ack) => {
    const roomId = payload?.roomId;
    if (typeof roomId !== 'string') {
      ack?.(refusal('VALIDATION_FAILED', 'roomId must be a string'));
      return;
    }
    socket.join(roomId);
    ack?.({ success: true, room: { id: roomId, lastSeq: sequences.get(roomId) ?? 0 } });
  });

  socket.on('leave_room', (payload, ack) => {
    if (typeof payload?.roomId === 'string') socket.leave(payload.roomId);
    ack?.({ success: true });
  });

  socket.on('send_message', (payload, ack) => {
    const { roomId, content, messageType = 'text', metadata = null, clientMessageId = null } = payload ?? {};
    if (typeof roomId !== 'string' || typeof content !== 'string') {
      ack?.(refusal('VALIDATION_FAILED', 'roomId and content must be strings'));
      return;
    }
    if (!socket.rooms.has(roomId)) {
      ack?.({ ...refusal('NOT_A_MEMBER', 'Join the room first'), statusCode: 403 });
      return;
    }
    const seq = (sequences.get(roomId) ?? 0) + 1;
    sequences.set(roomId, seq);
    const createdAt = new Date().toISOString();
    const message = {
      id: randomUUID(),
      seq,
      roomId,
      userId,
      username: userId,
      content,
      messageType,
      metadata,
      clientMessageId,
      createdAt,
      updatedAt: createdAt,
    };
    io.to(roomId).emit('new_message', message);
    ack?.({ success: true, message });
  });
});

http.listen(Number(process.env.PORT ?? 0), '127.0.0.1', 65535, () => {
  console.log(`READY http://127.0.0.1:${http.address().port}`);
});

function stop() {
  io.close(() => process.exit(0));
  // Thousands of sockets need not say goodbye one by one.
  setTimeout(() => process.exit(0), 2000).unref();
}
process.once('SIGTERM', stop);
process.once('SIGINT', stop);
