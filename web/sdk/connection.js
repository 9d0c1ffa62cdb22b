// Keeps one socket connected: a fresh WS token for each try, jittered pauses between tries, and no pause when the
// browser says that the network is back. Owns the connection's state; what to do once online is its owner's matter.

import { SwitchboardError } from './errors.js';
import { after, backoffMs } from './options.js';
import { Socket } from './socket.js';

/** @import { Options } from './options.js' */
/** @import { ConnectionState } from './types.js' */

/**
 * @typedef {object} ConnectionHandlers
 * @property {() => Promise<string>} token Fetches a WS token.
 * @property {(bare: boolean) => Record<string, string>} rooms The cursors to resume with this connect; none if `bare`.
 * @property {() => void} onOnline
 * @property {() => void} onOffline The socket is gone; called before the state changes.
 * @property {(event: string, data: any) => void} onEvent
 * @property {(state: ConnectionState, error: SwitchboardError | null, retryInMs: number) => void} onState
 */

export class Connection {
  #options;
  #handlers;
  /** @type {ConnectionState} */
  #state = 'stopped';
  /** @type {Socket | null} */
  #socket = null;
  /** Tells the current try from those that were given up while they waited. */
  #try = 0;
  #failures = 0;
  #onlineAtMs = 0;
  /** The server did not like what went with the last connect: the next one goes with the token alone. */
  #bare = false;
  #cancelRetry = () => {};
  #unlisten = () => {};

  /**
   * @param {Options} options
   * @param {ConnectionHandlers} handlers
   */
  constructor(options, handlers) {
    this.#options = options;
    this.#handlers = handlers;
  }

  /** @returns {ConnectionState} */
  get state() {
    return this.#state;
  }

  /** Connects, and connects again until `stop`. */
  start() {
    if (this.#state !== 'stopped') return;
    this.#failures = 0;
    this.#unlisten = listenToBrowser({ online: () => this.wake(), offline: () => this.#networkLost() });
    this.#attempt();
  }

  stop() {
    if (this.#state === 'stopped') return;
    this.#unlisten();
    this.#drop();
    this.#become('stopped', null, 0);
  }

  /** Tries now if it waits; looks whether the connection is still alive if it does not. */
  wake() {
    if (this.#state === 'offline') {
      this.#failures = 0;
      this.#attempt();
    } else {
      this.#socket?.check();
    }
  }

  /**
   * @param {string} event
   * @param {unknown} data
   * @returns {Promise<any>} The ack; see Socket.request.
   */
  request(event, data) {
    if (this.#socket === null || this.#state !== 'online') {
      return Promise.reject(new SwitchboardError('DISCONNECTED', 'Not connected.'));
    }
    return this.#socket.request(event, data);
  }

  async #attempt() {
    const attempt = ++this.#try;
    this.#cancelRetry();
    this.#become('connecting', null, 0);
    try {
      const token = await this.#handlers.token();
      if (attempt !== this.#try) return;
      this.#socket = new Socket(this.#options, { token, rooms: this.#handlers.rooms(this.#bare) }, {
        onConnect: () => this.#connected(),
        onEvent: this.#handlers.onEvent,
        onClose: (error) => this.#lost(error),
      });
    } catch (failure) {
      if (attempt === this.#try) this.#lost(SwitchboardError.from(failure));
    }
  }

  #connected() {
    this.#onlineAtMs = Date.now();
    this.#bare = false;
    this.#become('online', null, 0);
    this.#handlers.onOnline();
  }

  /** @param {SwitchboardError} error */
  #lost(error) {
    if (this.#state === 'online' && Date.now() - this.#onlineAtMs >= this.#options.stableMs) this.#failures = 0;
    this.#bare = error.code === 'VALIDATION_FAILED';
    this.#drop();
    const pauseMs = Math.max(error.retryAfterMs, backoffMs(this.#options, this.#failures++));
    this.#cancelRetry = after(pauseMs, () => this.#attempt());
    this.#become('offline', error, pauseMs);
  }

  /**
   * The browser says that there is no network. The socket may or may not survive that; a new one with cursors is cheap
   * and certain, a dead one would go unnoticed until the heartbeat is missed.
   */
  #networkLost() {
    if (this.#state === 'offline' || this.#state === 'stopped') return;
    this.#lost(new SwitchboardError('NETWORK_ERROR', 'The network is gone.'));
  }

  #drop() {
    this.#try++;
    this.#cancelRetry();
    this.#socket?.close();
    this.#socket = null;
    if (this.#state === 'online') this.#handlers.onOffline();
  }

  /**
   * @param {ConnectionState} state
   * @param {SwitchboardError | null} error
   * @param {number} retryInMs
   */
  #become(state, error, retryInMs) {
    this.#state = state;
    this.#handlers.onState(state, error, retryInMs);
  }
}

/**
 * @param {{online: () => void, offline: () => void}} listeners
 * @returns {() => void} Ends it.
 */
function listenToBrowser({ online, offline }) {
  const { window, document } = globalThis;
  // Outside of a browser nobody tells; the timers do.
  if (window === undefined || document === undefined) return () => {};
  const visible = () => document.visibilityState === 'visible' && online();
  window.addEventListener('online', online);
  window.addEventListener('offline', offline);
  document.addEventListener('visibilitychange', visible);
  return () => {
    window.removeEventListener('online', online);
    window.removeEventListener('offline', offline);
    document.removeEventListener('visibilitychange', visible);
  };
}
