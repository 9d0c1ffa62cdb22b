// The page over the fake server, for looking at it without the real one: `npm run preview`. Serves the files of web/
// with the strict content security policy and speaks WebSocket (RFC 6455, text frames only) by hand, so that nothing
// has to be installed. Also a module: `startPreview` for scripts that drive a browser.

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FakeServer } from './fake-server.js';

const WEB = fileURLToPath(new URL('../../', import.meta.url));
const TYPES = { '.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript', '.svg': 'image/svg+xml' };
const POLICY = "default-src 'self'; connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const WEBSOCKET_KEY = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** → {server: FakeServer, url, close, cut}. */
export async function startPreview(port = 0) {
  const server = new FakeServer();
  const sockets = new Set();
  const http = createServer((request, response) => {
    const answered = request.url.startsWith('/api/') ? api(server, request, response) : file(request, response);
    answered.catch((failure) => response.writeHead(500).end(String(failure)));
  });
  http.on('upgrade', (request, socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    upgrade(server, request, socket);
  });
  await new Promise((resolve) => http.listen(port, '127.0.0.1', resolve));
  const cut = () => sockets.forEach((socket) => socket.destroy());
  const close = () => {
    cut();
    http.closeAllConnections();
    return new Promise((resolve) => http.close(resolve));
  };
  return { server, url: `http://127.0.0.1:${http.address().port}`, cut, close };
}

async function api(server, request, response) {
  let text = '';
  for await (const chunk of request) text += chunk;
  const answer = server.handle(request.method, request.url, request.headers, text === '' ? undefined : JSON.parse(text));
  response.writeHead(answer.status, { 'content-type': 'application/json' }).end(JSON.stringify(answer.body));
}

async function file(request, response) {
  const { pathname } = new URL(request.url, 'http://preview');
  const name = pathname === '/' ? 'index.html' : normalize(pathname).slice(1);
  if (!/^(index\.html|app\.css|(app|sdk)\/[\w.-]+)$/.test(name)) return response.writeHead(404).end();
  const bytes = await readFile(WEB + name).catch(() => null);
  if (bytes === null) return response.writeHead(404).end();
  const type = `${TYPES[extname(name)] ?? 'text/plain'}; charset=utf-8`;
  return response.writeHead(200, { 'content-type': type, 'content-security-policy': POLICY, 'cache-control': 'no-store' }).end(bytes);
}

function upgrade(server, request, socket) {
  const accept = createHash('sha1').update(request.headers['sec-websocket-key'] + WEBSOCKET_KEY).digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  const peer = server.accept({ send: (text) => socket.write(textFrame(text)), close: () => socket.end() });
  let received = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk]);
    for (let frame = readFrame(received); frame !== null; frame = readFrame(received)) {
      received = received.subarray(frame.length);
      if (frame.opcode === 8) return socket.end();
      if (frame.opcode === 1) peer.onText(frame.payload.toString());
    }
  });
  socket.on('error', () => {});
  socket.on('close', () => peer.onClose());
}

function textFrame(text) {
  const payload = Buffer.from(text);
  const head = payload.length < 126 ? Buffer.from([0x81, payload.length]) : Buffer.alloc(payload.length < 65536 ? 4 : 10);
  if (payload.length >= 65536) {
    head.set([0x81, 127]);
    head.writeBigUInt64BE(BigInt(payload.length), 2);
  } else if (payload.length >= 126) {
    head.set([0x81, 126]);
    head.writeUInt16BE(payload.length, 2);
  }
  return Buffer.concat([head, payload]);
}

/** The first frame, unmasked; null while it is not whole. */
function readFrame(bytes) {
  if (bytes.length < 6) return null;
  let size = bytes[1] & 0x7f;
  let at = 2;
  if (size === 126) [size, at] = [bytes.readUInt16BE(2), 4];
  else if (size === 127) {
    if (bytes.length < 14) return null;
    [size, at] = [Number(bytes.readBigUInt64BE(2)), 10];
  }
  const length = at + 4 + size;
  if (bytes.length < length) return null;
  const mask = bytes.subarray(at, at + 4);
  const payload = Buffer.from(bytes.subarray(at + 4, length), 0).map((byte, i) => byte ^ mask[i % 4]);
  return { opcode: bytes[0] & 0x0f, payload, length };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await startPreview(Number(process.argv[2] ?? 3900));
  console.log(`The page over a fake server: ${url}`);
}
