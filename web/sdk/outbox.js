// Messages on their way to the server. Owns the order per room, the retries with the same client message id (which the
// server takes for one message), and what is kept over a reload. One message per room is under way at a time: a second
// one could overtake the first when that has to be sent again.

import { SwitchboardError } from './errors.js';
import { STORAGE_KEYS, after, backoffMs, inBackground } from './options.js';
import { uuid } from './uuid.js';

/** @import { Options } from './options.js' */
/** @import { Message, Sending } from './types.js' */

/** @typedef {{messageType?: string, metadata?: Record<string, unknown>, clientMessageId?: string}} SendExtra */

/**
 * @typedef {object} Slot
 * @property {Sending} sending
 * @property {number} attempts
 * @property {(message: Message) => void} resolve
 * @property {(error: SwitchboardError) => void} reject
 * @property {() => void} cancelAge
 */

/** A room's messages, the first one under way (`busy`) or waiting for a pause to end. @typedef {{slots: Slot[], busy: boolean, cancel: () => void}} Lane */

/**
 * @typedef {object} OutboxHandlers
 * @property {(event: string, data: any) => Promise<any>} request
 * @property {(sending: Sending) => void} onChange
 */

export class Outbox {
  #options;
  #handlers;
  #online = false;
  #userId = '';
  /** Tells answers of this connection from those of the last one. */
  #era = 0;
  /** @type {Map<string, Lane>} */
  #lanes = new Map();

  /**
   * @param {Options} options
   * @param {OutboxHandlers} handlers
   */
  constructor(options, handlers) {
    this.#options = options;
    this.#handlers = handlers;
  }

  /** What has not been sent yet, in order per room. @returns {Sending[]} */
  get pending() {
    return this.#slots().map(({ sending }) => sending);
  }

  /** Takes up what a user's last page left behind. @param {string} userId */
  open(userId) {
    this.#userId = userId;
    const now = Date.now();
    for (const kept of this.#stored()) {
      if (now - kept.createdAtMs < this.#options.sendAgeMsMax && !this.#has(kept.clientMessageId)) this.#put(kept);
    }
    this.#store();
  }

  /**
   * @param {string} roomId
   * @param {string} content
   * @param {SendExtra} extra
   * @returns {Sending}
   * @throws {SwitchboardError} OUTBOX_FULL.
   */
  add(roomId, content, { messageType, metadata, clientMessageId = uuid() }) {
    const twice = this.#slots().find(({ sending }) => sending.clientMessageId === clientMessageId);
    if (twice !== undefined) return twice.sending;
    if (this.#slots().length >= this.#options.outboxMax) {
      throw new SwitchboardError('OUTBOX_FULL', `${this.#options.outboxMax} messages wait to be sent already.`);
    }
    const sending = this.#put({ clientMessageId, roomId, content, messageType, metadata, createdAtMs: Date.now() });
    this.#store();
    this.#handlers.onChange(sending);
    this.#pump(roomId);
    return sending;
  }

  /** The connection is there: everything that waits goes out. */
  online() {
    this.#online = true;
    this.#era++;
    for (const [roomId, lane] of this.#lanes) {
      lane.cancel();
      lane.busy = false;
      this.#pump(roomId);
    }
  }

  offline() {
    this.#online = false;
    this.#era++;
  }

  /**
   * The server has stored this message, which may be news when its ack was lost.
   * @param {Message} message
   */
  settle(message) {
    const slot = this.#lanes.get(message.roomId)?.slots.find((each) => each.sending.clientMessageId === message.clientMessageId);
    if (slot !== undefined) this.#finish(slot, message, null);
  }

  /**
   * Gives up everything.
   * @param {SwitchboardError} error
   * @param {{keep: boolean}} how With `keep` the next login of the same user in this tab sends them after all.
   */
  close(error, { keep }) {
    const kept = this.#slots();
    for (const lane of this.#lanes.values()) lane.cancel();
    this.#lanes.clear();
    if (!keep) this.#store();
    this.#userId = '';
    for (const slot of kept) this.#conclude(slot, null, error);
  }

  /** @param {string} roomId */
  #pump(roomId) {
    const lane = this.#lanes.get(roomId);
    const slot = lane?.slots[0];
    if (!this.#online || lane === undefined || slot === undefined || lane.busy) return;
    lane.busy = true;
    this.#transmit(roomId, lane, slot);
  }

  /**
   * @param {string} roomId
   * @param {Lane} lane
   * @param {Slot} slot
   */
  async #transmit(roomId, lane, slot) {
    const era = this.#era;
    slot.attempts++;
    const { clientMessageId, content, messageType, metadata } = slot.sending;
    try {
      const data = { roomId, content, messageType, metadata, clientMessageId };
      const { message } = await this.#handlers.request('send_message', data);
      this.#finish(slot, message, null);
    } catch (failure) {
      // When the connection went, `online` begins again; the message keeps its place.
      const error = SwitchboardError.from(failure);
      if (!error.transient || slot.attempts >= this.#options.sendAttemptsMax) this.#finish(slot, null, error);
      else if (era === this.#era) this.#retryLater(roomId, lane, slot, error);
    }
  }

  /**
   * @param {string} roomId
   * @param {Lane} lane
   * @param {Slot} slot
   * @param {SwitchboardError} error
   */
  #retryLater(roomId, lane, slot, error) {
    const pauseMs = Math.max(error.retryAfterMs, backoffMs(this.#options, slot.attempts - 1));
    lane.cancel = after(pauseMs, () => {
      lane.busy = false;
      this.#pump(roomId);
    });
  }

  /**
   * @param {Omit<Sending, 'state' | 'error' | 'message' | 'done'>} what
   * @returns {Sending}
   */
  #put(what) {
    /** @type {(message: Message) => void} */
    let resolve = () => {};
    /** @type {(error: SwitchboardError) => void} */
    let reject = () => {};
    /** @type {Promise<Message>} */
    const done = new Promise((...both) => ([resolve, reject] = both));
    // An application may rely on the events alone.
    done.catch(() => {});
    /** @type {Sending} */
    const sending = { ...what, state: 'pending', error: null, message: null, done };
    /** @type {Slot} */
    const slot = { sending, attempts: 0, resolve, reject, cancelAge: () => {} };
    slot.cancelAge = inBackground(what.createdAtMs + this.#options.sendAgeMsMax - Date.now(), () => {
      this.#finish(slot, null, new SwitchboardError('SEND_EXPIRED', 'This could not be sent for too long.'));
    });
    const lane = this.#lanes.get(what.roomId) ?? { slots: [], busy: false, cancel: () => {} };
    lane.slots.push(slot);
    this.#lanes.set(what.roomId, lane);
    return sending;
  }

  /**
   * Takes a message out, sent or failed, and lets the next one go.
   * @param {Slot} slot
   * @param {Message | null} message
   * @param {SwitchboardError | null} error
   */
  #finish(slot, message, error) {
    const { roomId } = slot.sending;
    const lane = this.#lanes.get(roomId);
    const at = lane?.slots.indexOf(slot) ?? -1;
    if (lane === undefined || at < 0) return;
    lane.slots.splice(at, 1);
    if (at === 0) {
      lane.cancel();
      lane.busy = false;
    }
    if (lane.slots.length === 0) this.#lanes.delete(roomId);
    this.#store();
    this.#conclude(slot, message, error);
    this.#pump(roomId);
  }

  /**
   * @param {Slot} slot
   * @param {Message | null} message
   * @param {SwitchboardError | null} error
   */
  #conclude({ sending, cancelAge, resolve, reject }, message, error) {
    cancelAge();
    sending.state = message === null ? 'failed' : 'sent';
    sending.message = message;
    sending.error = error;
    if (message !== null) resolve(message);
    else reject(error ?? new SwitchboardError('PROTOCOL_ERROR', 'The server answered without the message.'));
    this.#handlers.onChange(sending);
  }

  /** @returns {Slot[]} */
  #slots() {
    return [...this.#lanes.values()].flatMap(({ slots }) => slots);
  }

  /** @param {string} clientMessageId */
  #has(clientMessageId) {
    return this.#slots().some(({ sending }) => sending.clientMessageId === clientMessageId);
  }

  #store() {
    if (this.#userId === '') return;
    try {
      const messages = this.pending.map(({ state, error, message, done, ...kept }) => kept);
      if (messages.length === 0) this.#options.outboxStorage?.removeItem(STORAGE_KEYS.outbox);
      else this.#options.outboxStorage?.setItem(STORAGE_KEYS.outbox, JSON.stringify({ userId: this.#userId, messages }));
    } catch {
      // A full or forbidden store costs what waits at a reload, nothing now.
    }
  }

  /** @returns {Omit<Sending, 'state' | 'error' | 'message' | 'done'>[]} */
  #stored() {
    try {
      const value = JSON.parse(this.#options.outboxStorage?.getItem(STORAGE_KEYS.outbox) ?? 'null');
      if (value?.userId !== this.#userId || !Array.isArray(value.messages)) return [];
      return value.messages.filter(isKept).slice(0, this.#options.outboxMax);
    } catch {
      return [];
    }
  }
}

/** @param {any} value */
function isKept(value) {
  return typeof value?.clientMessageId === 'string' && typeof value.roomId === 'string' &&
    typeof value.content === 'string' && typeof value.createdAtMs === 'number';
}
