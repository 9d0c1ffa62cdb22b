// One life of one WebSocket that speaks Engine.IO v4 and Socket.IO v5 with JSON: handshake, heartbeat, events, acks.
// It never reconnects and knows nothing of rooms; connection.js makes a new one after each end. Binary is not spoken.
// Protocols: https://socket.io/docs/v4/engine-io-protocol/ and https://socket.io/docs/v4/socket-io-protocol/

import { SwitchboardError } from './errors.js';
import { after } from './options.js';

/** @import { Options } from './options.js' */

const ENGINE = Object.freeze({ open: '0', close: '1', ping: '2', pong: '3', message: '4', noop: '6' });
const SOCKET = Object.freeze({ connect: '0', disconnect: '1', event: '2', ack: '3', connectError: '4' });

/**
 * What happens to a socket. Called in the order of arrival; nothing is called after `onClose`.
 * @typedef {object} SocketHandlers
 * @property {() => void} onConnect The server has accepted.
 * @property {(event: string, data: any) => void} onEvent
 * @property {(error: SwitchboardError) => void} onClose Once, for whatever reason but `close()`.
 */

/** @typedef {{settle: (error: SwitchboardError | null, answer: any) => void, cancel: () => void}} Waiting */

export class Socket {
  #options;
  #handlers;
  /** @type {Record<string, unknown>} */
  #auth;
  /** @type {WebSocket} */
  #ws;
  #closed = false;
  #connected = false;
  #cancelHandshake = () => {};
  #cancelWatchdog = () => {};
  /** The longest silence that a living server keeps. */
  #silenceMsMax = Infinity;
  #heardAtMs = Date.now();
  #nextAck = 0;
  /** @type {Map<number, Waiting>} */
  #waiting = new Map();

  /**
   * Begins to connect.
   * @param {Options} options
   * @param {Record<string, unknown>} auth What goes with CONNECT.
   * @param {SocketHandlers} handlers
   */
  constructor(options, auth, handlers) {
    this.#options = options;
    this.#auth = auth;
    this.#handlers = handlers;
    const url = `${options.url.replace(/^http/, 'ws')}${options.socketPath}?EIO=4&transport=websocket`;
    this.#ws = new options.WebSocket(url);
    this.#ws.onmessage = ({ data }) => this.#onFrame(data);
    this.#ws.onclose = () => this.#fail('DISCONNECTED', 'The connection was closed.');
    this.#ws.onerror = () => this.#fail('NETWORK_ERROR', 'The connection failed.');
    this.#cancelHandshake = after(options.handshakeTimeoutMs, () => {
      this.#fail('TIMEOUT', 'The server took too long to accept the connection.');
    });
  }

  /**
   * Sends an event and waits for its ack.
   * @param {string} event
   * @param {unknown} data
   * @returns {Promise<any>} The ack.
   * @throws {SwitchboardError} The server's refusal; DISCONNECTED or TIMEOUT when the outcome is unknown;
   *   PAYLOAD_TOO_LARGE when it was not sent, because the server would end the connection.
   */
  request(event, data) {
    if (this.#closed || !this.#connected) return Promise.reject(disconnected());
    if (this.#waiting.size >= this.#options.acksMax) {
      return Promise.reject(new SwitchboardError('LIMIT_REACHED', 'Too many events wait for their answer.'));
    }
    const id = this.#nextAck++;
    const frame = `${ENGINE.message}${SOCKET.event}${id}${JSON.stringify([event, data])}`;
    if (!fits(frame, this.#options.frameBytesMax)) {
      return Promise.reject(new SwitchboardError('PAYLOAD_TOO_LARGE', 'This is too large to send.'));
    }
    return new Promise((resolve, reject) => {
      const cancel = after(this.#options.ackTimeoutMs, () => {
        this.#waiting.delete(id);
        reject(new SwitchboardError('TIMEOUT', 'The server took too long to answer.'));
      });
      this.#waiting.set(id, { cancel, settle: (error, answer) => (error ? reject(error) : resolve(answer)) });
      this.#ws.send(frame);
    });
  }

  /** Closes without a call of `onClose`. */
  close() {
    if (this.#closed) return;
    if (this.#connected) this.#ws.send(`${ENGINE.message}${SOCKET.disconnect}`);
    this.#end(disconnected());
  }

  /** Ends a connection whose server has been silent for too long; for when timers stood still, as in a sleep. */
  check() {
    if (Date.now() - this.#heardAtMs > this.#silenceMsMax) this.#fail('TIMEOUT', 'The connection was lost.');
  }

  /** @param {unknown} frame */
  #onFrame(frame) {
    if (this.#closed) return;
    this.#heardAtMs = Date.now();
    try {
      if (typeof frame !== 'string') throw new SwitchboardError('PROTOCOL_ERROR', 'The server sent binary.');
      this.#onEnginePacket(frame[0], frame.slice(1));
    } catch (failure) {
      const error = SwitchboardError.from(failure);
      this.#fail(error.code, error.message);
    }
  }

  /**
   * @param {string | undefined} type
   * @param {string} rest
   */
  #onEnginePacket(type, rest) {
    switch (type) {
      case ENGINE.open:
        this.#onOpen(JSON.parse(rest));
        break;
      case ENGINE.ping:
        this.#ws.send(ENGINE.pong + rest);
        this.#watch();
        break;
      case ENGINE.message:
        this.#onSocketPacket(rest);
        break;
      case ENGINE.close:
        this.#fail('DISCONNECTED', 'The server closed the connection.');
        break;
      case ENGINE.noop:
        break;
      default:
        throw new SwitchboardError('PROTOCOL_ERROR', 'The server sent an unknown packet.');
    }
  }

  /** @param {{pingInterval: number, pingTimeout: number}} handshake */
  #onOpen({ pingInterval, pingTimeout }) {
    this.#silenceMsMax = pingInterval + pingTimeout;
    this.#watch();
    this.#ws.send(`${ENGINE.message}${SOCKET.connect}${JSON.stringify(this.#auth)}`);
    // The token is spent with this; nothing needs it any more.
    this.#auth = {};
  }

  /** Expects the next ping in time. */
  #watch() {
    this.#cancelWatchdog();
    this.#cancelWatchdog = after(this.#silenceMsMax, () => this.#fail('TIMEOUT', 'The connection was lost.'));
  }

  /** @param {string} packet */
  #onSocketPacket(packet) {
    const type = packet[0];
    let at = 1;
    if (packet[at] === '/') at = packet.indexOf(',') + 1 || packet.length;
    const id = /^\d*/.exec(packet.slice(at, at + 16))?.[0] ?? '';
    const json = packet.slice(at + id.length);
    const data = json === '' ? undefined : JSON.parse(json);
    switch (type) {
      case SOCKET.connect:
        this.#cancelHandshake();
        this.#connected = true;
        this.#handlers.onConnect();
        break;
      case SOCKET.connectError:
        this.#end(SwitchboardError.fromBody(data?.data ?? data), true);
        break;
      case SOCKET.disconnect:
        this.#fail('DISCONNECTED', 'The server ended the connection.');
        break;
      case SOCKET.event:
        if (Array.isArray(data) && typeof data[0] === 'string') this.#handlers.onEvent(data[0], data[1]);
        break;
      case SOCKET.ack:
        this.#onAck(Number(id), Array.isArray(data) ? data[0] : undefined);
        break;
      default:
        throw new SwitchboardError('PROTOCOL_ERROR', 'The server sent an unknown packet.');
    }
  }

  /**
   * @param {number} id
   * @param {any} answer
   */
  #onAck(id, answer) {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    waiting.cancel();
    const refused = answer?.success === true ? null : SwitchboardError.fromBody(answer);
    waiting.settle(refused, answer);
  }

  /**
   * @param {string} code
   * @param {string} message
   */
  #fail(code, message) {
    this.#end(new SwitchboardError(code, message), true);
  }

  /**
   * @param {SwitchboardError} error
   * @param {boolean} [tell]
   */
  #end(error, tell = false) {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelHandshake();
    this.#cancelWatchdog();
    // On a dead network the browser's own closing can take minutes: nobody listens to it any more.
    this.#ws.onmessage = this.#ws.onclose = this.#ws.onerror = null;
    this.#ws.close();
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { cancel, settle } of waiting) {
      cancel();
      settle(disconnected(), null);
    }
    if (tell) this.#handlers.onClose(error);
  }
}

function disconnected() {
  return new SwitchboardError('DISCONNECTED', 'Not connected.');
}

/**
 * @param {string} text
 * @param {number} bytesMax
 */
function fits(text, bytesMax) {
  // No UTF-16 unit takes more than three bytes, so that short frames need no encoding.
  return text.length * 3 <= bytesMax || new TextEncoder().encode(text).length <= bytesMax;
}
