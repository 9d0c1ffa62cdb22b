// Who types. Owns the throttle of what this client tells and the expiry of what it hears; nothing here is ever stored
// or retried, because a typing notice that comes late is wrong.

import { after } from './options.js';

/** @import { Options } from './options.js' */
/** @import { Typist } from './types.js' */

/**
 * @typedef {object} TypingHandlers
 * @property {(event: string, data: any) => Promise<any>} request
 * @property {(event: 'typing_start' | 'typing_stop', typist: Typist) => void} emit
 */

export class Typing {
  #options;
  #handlers;
  /** Rooms in which this client types. @type {Map<string, {toldAtMs: number, cancel: () => void}>} */
  #own = new Map();
  /** @type {Map<string, {typist: Typist, cancel: () => void}>} */
  #others = new Map();

  /**
   * @param {Options} options
   * @param {TypingHandlers} handlers
   */
  constructor(options, handlers) {
    this.#options = options;
    this.#handlers = handlers;
  }

  /** A key was pressed. @param {string} roomId */
  start(roomId) {
    const own = this.#own.get(roomId);
    own?.cancel();
    const now = Date.now();
    const due = own === undefined || now - own.toldAtMs >= this.#options.typingThrottleMs;
    if (due) this.#tell('typing_start', roomId);
    const cancel = after(this.#options.typingIdleMs, () => this.stop(roomId));
    this.#own.set(roomId, { toldAtMs: due ? now : own.toldAtMs, cancel });
  }

  /** The text was sent or given up. @param {string} roomId */
  stop(roomId) {
    const own = this.#own.get(roomId);
    if (own === undefined) return;
    own.cancel();
    this.#own.delete(roomId);
    this.#tell('typing_stop', roomId);
  }

  /**
   * @param {'typing_start' | 'typing_stop'} event
   * @param {Typist} typist
   */
  onEvent(event, typist) {
    const key = `${typist.roomId} ${typist.userId}`;
    const known = this.#others.get(key);
    known?.cancel();
    this.#others.delete(key);
    if (event === 'typing_start') {
      if (this.#others.size >= this.#options.typistsMax) return;
      const cancel = after(this.#options.typingExpiryMs, () => this.onEvent('typing_stop', typist));
      this.#others.set(key, { typist, cancel });
      if (known === undefined) this.#handlers.emit('typing_start', typist);
    } else if (known !== undefined) {
      this.#handlers.emit('typing_stop', typist);
    }
  }

  /** Who has sent a message types no more. @param {{roomId: string, userId: string, username: string}} message */
  onMessage({ roomId, userId, username }) {
    this.onEvent('typing_stop', { roomId, userId, username });
  }

  /** The connection is gone, and with it whoever typed. */
  clear() {
    for (const { cancel } of this.#own.values()) cancel();
    this.#own.clear();
    for (const { typist } of [...this.#others.values()]) this.onEvent('typing_stop', typist);
  }

  /**
   * @param {string} event
   * @param {string} roomId
   */
  #tell(event, roomId) {
    this.#handlers.request(event, { roomId }).catch(() => {});
  }
}
