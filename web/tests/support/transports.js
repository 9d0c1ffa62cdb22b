// Brings a client and the fake server together within one process: a `fetch` and a `WebSocket` to give to the SDK, with
// the network's own failures as switches.

import { createHash } from 'node:crypto';

/** A network between one client and a server. */
export class FakeNetwork {
  /** Whether calls and connections fail. */
  down = false;
  /** Frames in either direction vanish, and nobody is told. */
  deaf = false;
  opened = 0;
  /** What each good answer to GET was to the client: 'new', 'same' as the one that it has, or 'changed'. */
  sent = [];
  #open = new Set();

  constructor(server) {
    const network = this;
    this.server = server;
    this.fetch = async (url, { method, headers, body }) => {
      await turn();
      if (network.down) throw new TypeError('fetch failed');
      const answer = server.handle(method, url, headers, body === undefined ? undefined : JSON.parse(body));
      await turn();
      const text = JSON.stringify(answer.body);
      if (method !== 'GET' || answer.status !== 200) {
        return new Response(text, { status: answer.status, headers: answer.headers });
      }
      const etag = `W/"${createHash('sha256').update(text).digest('base64url')}"`;
      const named = headers['if-none-match'];
      const known = named === etag;
      network.sent.push(known ? 'same' : named === undefined ? 'new' : 'changed');
      return new Response(known ? null : text, { status: known ? 304 : 200, headers: { ...answer.headers, etag } });
    };
    this.WebSocket = class {
      constructor(url) {
        this.url = url;
        network.#connect(this);
      }
      send(text) {
        this.outgoing?.(text);
      }
      close() {
        this.hangUp?.();
      }
    };
  }

  /** Ends every connection, as a restart of the server does. */
  cut() {
    for (const cut of [...this.#open]) cut();
  }

  async #connect(ws) {
    this.opened++;
    await turn();
    if (this.down) return ws.onerror?.({});
    let alive = true;
    const end = (tell) => {
      if (!alive) return;
      alive = false;
      this.#open.delete(cut);
      peer.onClose();
      if (tell) ws.onclose?.({});
    };
    const cut = () => end(true);
    const wire = {
      // Each frame comes in a turn of its own, in order, as from a real socket.
      send: (text) => void setImmediate(() => alive && !this.deaf && ws.onmessage?.({ data: text })),
      close: () => setImmediate(cut),
    };
    const peer = this.server.accept(wire);
    ws.outgoing = (text) => void setImmediate(() => alive && !this.deaf && peer.onText(text));
    ws.hangUp = () => end(false);
    this.#open.add(cut);
  }
}

function turn() {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A Storage in memory. */
export class FakeStorage {
  items = new Map();
  getItem(key) {
    return this.items.get(key) ?? null;
  }
  setItem(key, value) {
    this.items.set(key, value);
  }
  removeItem(key) {
    this.items.delete(key);
  }
}

/** Waits until `condition` gives something true, which is returned. */
export async function until(condition, what = String(condition), limitMs = 10_000) {
  const start = Date.now();
  for (;;) {
    const value = condition();
    if (value) return value;
    if (Date.now() - start > limitMs) throw new Error(`Not within ${limitMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
