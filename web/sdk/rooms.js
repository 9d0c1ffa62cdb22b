// Follows rooms over the socket: joins, resumes by cursor in pages, drops what is repeated, and fetches what is missing
// when `seq` shows a hole. Owns each followed room's cursor. Membership beyond this socket is REST's matter.

import { SwitchboardError } from './errors.js';
import { after, backoffMs } from './options.js';
import { Sequence } from './sequence.js';

/** @import { Options } from './options.js' */
/** @import { Entry, JoinAnswer, LeaveReason, Room } from './types.js' */

/**
 * @typedef {object} RoomsHandlers
 * @property {(event: string, data: any) => Promise<any>} request
 * @property {() => string} ownUserId
 * @property {(event: any, detail: any) => void} emit
 * @property {(message: any) => void} onOwnMessage A message of ours that the server has stored.
 */

/**
 * A followed room. `idle`: waits for the connection, a free place or a pause to end.
 * @typedef {object} Feed
 * @property {string} roomId
 * @property {string | null} cursor
 * @property {Sequence} sequence
 * @property {'idle' | 'joining' | 'live'} state
 * @property {number} attempt Tells the current join from those that were given up.
 * @property {number} failures
 * @property {number} holes In a row.
 * @property {{event: string, data: Entry}[]} buffer Live entries that came while joining.
 * @property {boolean} overflowed
 * @property {LeaveReason | null} gone What the entries seen so far say of our own membership.
 * @property {() => void} cancel Ends a pause or a wait.
 * @property {Promise<Room>} joined
 * @property {(room: Room) => void} resolve
 * @property {(error: SwitchboardError) => void} reject
 */

export class Rooms {
  #options;
  #handlers;
  #online = false;
  /** @type {Map<string, Feed>} */
  #feeds = new Map();
  /** @type {Feed[]} */
  #queue = [];
  #joining = 0;

  /**
   * @param {Options} options
   * @param {RoomsHandlers} handlers
   */
  constructor(options, handlers) {
    this.#options = options;
    this.#handlers = handlers;
  }

  /** @returns {string[]} */
  get roomIds() {
    return [...this.#feeds.keys()];
  }

  /**
   * Where a room could be resumed later, by another page too.
   * @param {string} roomId
   * @returns {string | null}
   */
  cursorOf(roomId) {
    return this.#feeds.get(roomId)?.cursor ?? null;
  }

  /**
   * @param {string} roomId
   * @param {string} [cursor]
   * @returns {Promise<Room>} Once the room is live.
   */
  join(roomId, cursor) {
    const known = this.#feeds.get(roomId);
    if (known !== undefined) return known.joined;
    if (this.#feeds.size >= this.#options.roomsMax) {
      const message = `At most ${this.#options.roomsMax} rooms can be followed at once.`;
      return Promise.reject(new SwitchboardError('LIMIT_REACHED', message));
    }
    const feed = newFeed(roomId, cursor ?? null);
    this.#feeds.set(roomId, feed);
    this.#want(feed);
    return feed.joined;
  }

  /**
   * Stops following. Membership stays.
   * @param {string} roomId
   */
  leave(roomId) {
    const feed = this.#feeds.get(roomId);
    if (feed === undefined) return;
    this.#forget(feed, 'left', null);
    // If this gets lost the server sends a little more, which nobody listens to.
    if (this.#online) this.#handlers.request('leave_room', { roomId }).catch(() => {});
  }

  /** Forgets all rooms. @param {SwitchboardError} error */
  clear(error) {
    for (const feed of [...this.#feeds.values()]) this.#forget(feed, 'left', error, true);
    this.#queue = [];
  }

  /**
   * The cursors for the CONNECT packet: those rooms are answered by `room_joined` without asking.
   * @param {boolean} bare Give none.
   * @returns {Record<string, string>}
   */
  resume(bare) {
    /** @type {Record<string, string>} */
    const cursors = {};
    for (const feed of this.#feeds.values()) {
      this.#pause(feed);
      if (bare || feed.cursor === null) continue;
      cursors[feed.roomId] = feed.cursor;
      feed.state = 'joining';
      feed.sequence.afterCursor();
    }
    return cursors;
  }

  /** The socket is connected with what `resume` gave. */
  online() {
    this.#online = true;
    this.#joining = 0;
    for (const feed of this.#feeds.values()) {
      if (feed.state !== 'joining') {
        this.#want(feed);
        continue;
      }
      const attempt = ++feed.attempt;
      feed.cancel();
      feed.cancel = after(this.#options.ackTimeoutMs, () => {
        if (attempt === feed.attempt) this.#want(feed);
      });
    }
  }

  /** The socket is gone: every room has to be resumed. */
  offline() {
    this.#online = false;
    this.#queue = [];
    for (const feed of this.#feeds.values()) this.#pause(feed);
  }

  /**
   * The answer to a room of CONNECT.
   * @param {any} data
   */
  onRoomJoined(data) {
    const feed = this.#feeds.get(data?.roomId);
    if (feed === undefined || feed.state !== 'joining') return;
    if (data.success === true) this.#answered(feed, data);
    else this.#refused(feed, SwitchboardError.fromBody(data));
  }

  /**
   * A live entry.
   * @param {string} event
   * @param {Entry} data
   */
  onEntry(event, data) {
    const feed = this.#feeds.get(data.roomId);
    if (feed === undefined || feed.state === 'idle') return;
    if (feed.state === 'live') {
      this.#take(feed, event, data);
    } else if (feed.buffer.length < this.#options.joinBufferMax) {
      // The socket may have been live in this room before; the answer to the join says which of these are new.
      feed.buffer.push({ event, data });
    } else {
      feed.overflowed = true;
    }
  }

  /** Queues a join. @param {Feed} feed */
  #want(feed) {
    this.#pause(feed);
    if (!this.#online) return;
    this.#queue.push(feed);
    this.#pump();
  }

  /** @param {Feed} feed */
  #pause(feed) {
    feed.attempt++;
    feed.cancel();
    feed.cancel = () => {};
    feed.state = 'idle';
    feed.buffer = [];
    feed.overflowed = false;
    this.#queue = this.#queue.filter((queued) => queued !== feed);
  }

  #pump() {
    while (this.#online && this.#joining < this.#options.joinsMax) {
      const feed = this.#queue.shift();
      if (feed === undefined) return;
      this.#joining++;
      this.#ask(feed).finally(() => {
        this.#joining = Math.max(0, this.#joining - 1);
        this.#pump();
      });
    }
  }

  /** @param {Feed} feed */
  async #ask(feed) {
    const attempt = ++feed.attempt;
    feed.state = 'joining';
    feed.sequence.afterCursor();
    const { roomId, cursor } = feed;
    try {
      const answer = await this.#handlers.request('join_room', cursor === null ? { roomId } : { roomId, cursor });
      if (attempt === feed.attempt) this.#answered(feed, answer);
    } catch (failure) {
      if (attempt === feed.attempt) this.#refused(feed, SwitchboardError.from(failure));
    }
  }

  /**
   * @param {Feed} feed
   * @param {JoinAnswer} answer
   */
  #answered(feed, answer) {
    const { roomId } = feed;
    feed.cancel();
    feed.failures = 0;
    const before = feed.cursor;
    if (answer.recovered) {
      for (const { event, data } of answer.missed) {
        if (!this.#take(feed, event, data)) return;
      }
    } else {
      feed.gone = null;
      feed.sequence.reset(answer.messages.at(-1)?.seq ?? 0, answer.room.lastSeq);
      this.#handlers.emit('room_reset', { roomId, room: answer.room, messages: answer.messages });
      for (const message of answer.messages) this.#settleOwn(message);
    }
    if (this.#feeds.get(roomId) !== feed) return;
    feed.cursor = answer.cursor;
    if (answer.more) {
      // A page that brings nothing on would be asked for again without end.
      if (feed.cursor === before) this.#refused(feed, new SwitchboardError('UNAVAILABLE', 'No progress in a room.'));
      else this.#ask(feed);
    } else {
      this.#live(feed, answer);
    }
  }

  /**
   * @param {Feed} feed
   * @param {JoinAnswer} answer
   */
  #live(feed, answer) {
    const { buffer, overflowed } = feed;
    feed.buffer = [];
    feed.overflowed = false;
    feed.state = 'live';
    for (const { event, data } of buffer) {
      if (!this.#take(feed, event, data)) return;
    }
    // Too much came to keep: what was dropped comes after the cursor.
    if (overflowed) return this.#want(feed);
    if (feed.gone !== null) return this.#forget(feed, feed.gone, null);
    this.#handlers.emit('room_live', { roomId: feed.roomId, room: answer.room, recovered: answer.recovered });
    feed.resolve(answer.room);
  }

  /**
   * @param {Feed} feed
   * @param {string} event
   * @param {Entry} data
   * @returns {boolean} Whether the feed goes on from here.
   */
  #take(feed, event, data) {
    const verdict = feed.sequence.judge(data.seq);
    if (verdict === 'repeat') return true;
    if (verdict === 'hole') {
      this.#hole(feed, data.seq);
      return false;
    }
    feed.sequence.advance(data.seq);
    if (typeof data.cursor === 'string') feed.cursor = data.cursor;
    feed.holes = 0;
    this.#handlers.emit('entry', { event, data });
    this.#handlers.emit(event, data);
    if (event === 'new_message') this.#settleOwn(data);
    if (event === 'members_changed') this.#noteOwnMembership(feed, data);
    if (event === 'room_closed') this.#forget(feed, 'closed', null);
    if (feed.state === 'live' && feed.gone !== null) this.#forget(feed, feed.gone, null);
    return this.#feeds.get(feed.roomId) === feed;
  }

  /**
   * @param {Feed} feed
   * @param {number} got
   */
  #hole(feed, got) {
    this.#handlers.emit('hole', { roomId: feed.roomId, expected: feed.sequence.expected, got });
    feed.holes++;
    if (feed.holes > this.#options.holesMax) {
      // The log cannot be brought together with what is here: begin again with the newest page.
      feed.holes = 0;
      feed.cursor = null;
    }
    if (feed.holes <= 1) this.#want(feed);
    else this.#later(feed, backoffMs(this.#options, feed.holes - 2));
  }

  /**
   * @param {Feed} feed
   * @param {SwitchboardError} error
   */
  #refused(feed, error) {
    if (!this.#online) return;
    if (error.transient) {
      this.#later(feed, Math.max(error.retryAfterMs, backoffMs(this.#options, feed.failures++)));
    } else if (error.code === 'VALIDATION_FAILED' && feed.cursor !== null) {
      // A cursor that is none, kept from another server perhaps. Without one the join needs no luck.
      feed.cursor = null;
      this.#want(feed);
    } else {
      this.#forget(feed, 'refused', error);
    }
  }

  /**
   * @param {Feed} feed
   * @param {number} ms
   */
  #later(feed, ms) {
    this.#pause(feed);
    feed.cancel = after(ms, () => this.#want(feed));
  }

  /** @param {any} message */
  #settleOwn(message) {
    if (message.userId === this.#handlers.ownUserId()) this.#handlers.onOwnMessage(message);
  }

  /**
   * Among missed entries a removal may be followed by a return, so that only the end counts.
   * @param {Feed} feed
   * @param {any} data
   */
  #noteOwnMembership(feed, data) {
    const own = this.#handlers.ownUserId();
    if (data.joined?.includes(own)) feed.gone = null;
    else if (data.removed?.includes(own)) feed.gone = 'removed';
    else if (data.left?.includes(own)) feed.gone = 'left';
  }

  /**
   * @param {Feed} feed
   * @param {LeaveReason} reason
   * @param {SwitchboardError | null} error
   * @param {boolean} [quiet]
   */
  #forget(feed, reason, error, quiet = false) {
    this.#pause(feed);
    this.#feeds.delete(feed.roomId);
    feed.reject(error ?? new SwitchboardError('DISCONNECTED', 'The room was left.'));
    if (!quiet) this.#handlers.emit('room_left', { roomId: feed.roomId, reason, error });
  }
}

/**
 * @param {string} roomId
 * @param {string | null} cursor
 * @returns {Feed}
 */
function newFeed(roomId, cursor) {
  /** @type {(room: Room) => void} */
  let resolve = () => {};
  /** @type {(error: SwitchboardError) => void} */
  let reject = () => {};
  /** @type {Promise<Room>} */
  const joined = new Promise((...both) => ([resolve, reject] = both));
  // An application may rely on the events alone.
  joined.catch(() => {});
  return {
    roomId, cursor, sequence: new Sequence(), state: 'idle', attempt: 0, failures: 0, holes: 0, buffer: [],
    overflowed: false, gone: null, cancel: () => {}, joined, resolve, reject,
  };
}
