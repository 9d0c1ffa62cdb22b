// What the page knows of each room: its messages in order of `seq`, what waits to be sent, who types, what is unread.
// Owns no element; views read it and hear of changes by room. Bounded: messages beyond a window are let go and can be
// loaded again from the history.

/** @import { Switchboard } from '../sdk/switchboard.js' */
/** @import { Message, Room, Sending, User } from '../sdk/types.js' */
/** @import { ReadMarks } from './storage.js' */

import { SwitchboardError } from '../sdk/switchboard.js';

/** Messages kept of a room that nobody looks at, or that is followed at its end. */
const WINDOW = 200;
/** Messages kept while somebody reads back. Past it the page asks to return to the newest first. */
const WINDOW_READING = 2_000;
/** Rooms that are followed live; the SDK takes 100. The rest are followed when they are opened. */
export const LIVE_MAX = 80;
/** One page of history. */
const PAGE = 50;
/** Names remembered of people in direct rooms. */
const NAMES_MAX = 500;

/**
 * @typedef {object} RoomView
 * @property {Room} room
 * @property {Message[]} messages In order of `seq`, without a hole from the first to the last.
 * @property {Sending[]} waiting Pending or failed messages of ours, in the order of sending.
 * @property {Map<string, string>} typists Their names by user id.
 * @property {boolean} live
 * @property {boolean} loaded Whether the first page is there.
 * @property {boolean} hasOlder
 * @property {boolean} loadingOlder
 * @property {number} usedAt When it was opened last, for choosing which rooms stay live.
 */

export class Model {
  /** @type {Map<string, RoomView>} */
  rooms = new Map();
  /** @type {(roomId: string | null) => void} */
  #changed;
  #client;
  #marks;
  /** @type {Map<string, string>} */
  #names = new Map();
  #openId = '';
  /** Whether the user sees the end of the open room right now. */
  #reading = false;

  /**
   * @param {Switchboard} client
   * @param {ReadMarks} marks
   * @param {(roomId: string | null) => void} changed Null when the list itself changed.
   */
  constructor(client, marks, changed) {
    this.#client = client;
    this.#marks = marks;
    this.#changed = changed;
    client.on('room_reset', ({ roomId, room, messages }) => this.#reset(roomId, room, messages));
    client.on('room_live', ({ roomId, room }) => this.#update(roomId, { room, live: true }));
    client.on('room_left', ({ roomId, reason }) => this.#left(roomId, reason));
    client.on('new_message', (message) => this.#insert(message));
    client.on('members_changed', ({ roomId, memberCount }) => this.#patchRoom(roomId, { memberCount }));
    client.on('room_updated', ({ roomId, room }) => this.#patchRoom(roomId, room));
    client.on('entry', ({ data }) => this.#patchRoom(data.roomId, { lastSeq: data.seq }, true));
    client.on('typing_start', ({ roomId, userId, username }) => this.#typing(roomId, userId, username));
    client.on('typing_stop', ({ roomId, userId }) => this.#typing(roomId, userId, null));
    client.on('sending', (sending) => this.#sending(sending));
    client.on('state', ({ state }) => state !== 'online' && this.#offline());
  }

  /** The client's own user. @returns {User} */
  get me() {
    return this.#client.user ?? { id: '', username: '' };
  }

  /** @returns {string} */
  get openId() {
    return this.#openId;
  }

  /** The rooms, those with the latest news first. @returns {RoomView[]} */
  sorted() {
    return [...this.rooms.values()].sort((a, b) => latest(b).localeCompare(latest(a)) || a.room.id.localeCompare(b.room.id));
  }

  /** Takes the list of the user's rooms, follows the new ones and lets go of those that are no more. @param {Room[]} rooms */
  setRooms(rooms) {
    const ids = new Set(rooms.map(({ id }) => id));
    for (const id of this.rooms.keys()) {
      if (!ids.has(id) && !this.#client.roomIds.includes(id)) this.rooms.delete(id);
    }
    for (const room of rooms) this.addRoom(room);
    const fresh = this.#marks.fresh;
    // A device that sees this user for the first time knows nothing of what was read elsewhere.
    if (fresh) for (const { id, lastSeq } of rooms) this.#marks.set(id, lastSeq);
    this.#marks.fresh = false;
    this.#nameOthers(rooms);
    this.#changed(null);
  }

  /** @param {Room} room */
  addRoom(room) {
    const known = this.rooms.get(room.id);
    if (known === undefined) this.rooms.set(room.id, this.#newView(room));
    else if (!known.live) known.room = room;
    if (this.#client.roomIds.length < LIVE_MAX) this.#follow(room.id);
    this.#changed(room.id);
  }

  /** @param {string} roomId Empty for none. */
  open(roomId) {
    const before = this.#openId;
    this.#openId = roomId;
    this.#reading = false;
    const view = this.rooms.get(roomId);
    if (view !== undefined) {
      view.usedAt = Date.now();
      this.#makeSpace();
      this.#follow(roomId);
    }
    if (before !== roomId) this.#trim(before, WINDOW);
    this.#changed(before);
    this.#changed(roomId);
  }

  /** The user sees the end of the open room, or not. @param {boolean} reading */
  setReading(reading) {
    this.#reading = reading;
    if (!reading) return;
    this.#trim(this.#openId, WINDOW);
    if (this.#markRead()) this.#changed(this.#openId);
  }

  /** Another tab has read something. */
  marksChanged() {
    this.#marks.reload();
    this.#changed(null);
  }

  /** How far a room had been read. @param {string} roomId @returns {number} */
  readUpTo(roomId) {
    return this.#marks.of(roomId) ?? 0;
  }

  /**
   * Messages of others that were not read; `more` when there may be some beyond what is held.
   * @param {RoomView} view
   * @returns {{count: number, more: boolean}}
   */
  unread(view) {
    const mark = this.readUpTo(view.room.id);
    const me = this.me.id;
    const count = view.messages.filter(({ seq, userId }) => seq > mark && userId !== me).length;
    return { count, more: count > 0 && view.hasOlder && (view.messages[0]?.seq ?? 0) > mark + 1 };
  }

  /** What a room is called. A direct room has the other person's name. @param {Room} room @returns {string} */
  titleOf(room) {
    if (room.roomType !== 'direct') return room.name;
    const other = this.otherIn(room);
    return this.#names.get(other) ?? 'Direct message';
  }

  /** The other person's id in a direct room. @param {Room} room @returns {string} */
  otherIn(room) {
    return room.members?.find((id) => id !== this.me.id) ?? this.me.id;
  }

  /**
   * Loads a page of older messages.
   * @param {string} roomId
   * @returns {Promise<void>}
   */
  async loadOlder(roomId) {
    const view = this.rooms.get(roomId);
    if (view === undefined || view.loadingOlder || !view.hasOlder || view.messages.length >= WINDOW_READING) return;
    view.loadingOlder = true;
    const before = view.messages[0]?.seq;
    try {
      const { messages, pagination } = await this.#client.api.messages(roomId, { before, limit: PAGE });
      // The view may have been replaced meanwhile; what was asked for fits only where it was asked for.
      if (view.messages[0]?.seq !== before) return;
      view.messages = [...messages, ...view.messages];
      view.hasOlder = messages.length > 0 && (pagination.hasNext || messages.length >= PAGE) && messages[0].seq > 1;
    } finally {
      view.loadingOlder = false;
      this.#changed(roomId);
    }
  }

  /** @param {RoomView} view Whether so much is held that no older page is loaded. */
  isFull(view) {
    return view.messages.length >= WINDOW_READING;
  }

  /** Tries a failed message again, as the same message. @param {Sending} failed */
  retry(failed) {
    const { roomId, content, messageType, metadata, clientMessageId } = failed;
    this.discard(failed);
    this.#client.send(roomId, content, { messageType, metadata, clientMessageId });
  }

  /** Lets go of a failed message. @param {Sending} failed */
  discard(failed) {
    const view = this.rooms.get(failed.roomId);
    if (view === undefined) return;
    view.waiting = view.waiting.filter((each) => each.clientMessageId !== failed.clientMessageId);
    this.#changed(failed.roomId);
  }

  /** @param {string} roomId */
  #follow(roomId) {
    this.#client.join(roomId).catch((failure) => {
      // More rooms than can be followed: this one is, once it is opened.
      if (!(failure instanceof SwitchboardError)) throw failure;
    });
  }

  /** Keeps the number of live rooms below its limit, for the one that is about to be opened. */
  #makeSpace() {
    const live = this.#client.roomIds;
    if (live.includes(this.#openId) || live.length < LIVE_MAX) return;
    const idle = live.map((id) => this.rooms.get(id)).filter((view) => view !== undefined);
    const oldest = idle.sort((a, b) => a.usedAt - b.usedAt)[0];
    if (oldest === undefined) return;
    oldest.live = false;
    this.#client.leave(oldest.room.id);
  }

  /**
   * @param {string} roomId
   * @param {Room} room
   * @param {Message[]} messages
   */
  #reset(roomId, room, messages) {
    const view = this.rooms.get(roomId) ?? this.#newView(room);
    this.rooms.set(roomId, view);
    const hasOlder = messages.length >= PAGE && messages[0].seq > 1;
    Object.assign(view, { room, messages: [...messages], loaded: true, hasOlder });
    this.#withoutSent(view);
    this.#markRead();
    this.#changed(roomId);
  }

  /** @param {Message} message */
  #insert(message) {
    const view = this.rooms.get(message.roomId);
    if (view === undefined) return;
    // Nearly always at the end; our own message may have come with its ack before those between.
    let at = view.messages.length;
    while (at > 0 && view.messages[at - 1].seq > message.seq) at--;
    if (view.messages[at - 1]?.seq !== message.seq) view.messages.splice(at, 0, message);
    this.#withoutSent(view);
    if (message.roomId !== this.#openId || this.#reading) this.#trim(message.roomId, WINDOW);
    this.#markRead();
    this.#changed(message.roomId);
  }

  /** What is in the log waits no more. @param {RoomView} view */
  #withoutSent(view) {
    if (view.waiting.length === 0) return;
    const mine = new Set(view.messages.filter(({ userId }) => userId === this.me.id).map((each) => each.clientMessageId));
    view.waiting = view.waiting.filter(({ clientMessageId }) => !mine.has(clientMessageId));
  }

  /** @param {Sending} sending */
  #sending(sending) {
    const view = this.rooms.get(sending.roomId);
    if (view === undefined) return;
    const at = view.waiting.findIndex(({ clientMessageId }) => clientMessageId === sending.clientMessageId);
    if (sending.message !== null && view.live) {
      // Its entry comes as well; whichever is first, it stands in its place once.
      this.#insert(sending.message);
    } else {
      if (at < 0) view.waiting.push(sending);
      else view.waiting[at] = sending;
      this.#withoutSent(view);
      this.#changed(sending.roomId);
    }
  }

  /**
   * @param {string} roomId
   * @param {string} userId
   * @param {string | null} name Null when they have stopped.
   */
  #typing(roomId, userId, name) {
    const view = this.rooms.get(roomId);
    if (view === undefined) return;
    if (name === null) view.typists.delete(userId);
    else view.typists.set(userId, name);
    this.#changed(roomId);
  }

  /**
   * @param {string} roomId
   * @param {string} reason
   */
  #left(roomId, reason) {
    const view = this.rooms.get(roomId);
    // A room that was let go for another one is still the user's.
    if (view === undefined || (reason === 'left' && !view.live)) return;
    this.rooms.delete(roomId);
    this.#changed(null);
  }

  #offline() {
    for (const view of this.rooms.values()) view.live = false;
  }

  /**
   * @param {string} roomId
   * @param {Partial<RoomView>} what
   */
  #update(roomId, what) {
    const view = this.rooms.get(roomId);
    if (view === undefined) return;
    Object.assign(view, what);
    this.#changed(roomId);
  }

  /**
   * @param {string} roomId
   * @param {Partial<Room>} what
   * @param {boolean} [quiet]
   */
  #patchRoom(roomId, what, quiet = false) {
    const view = this.rooms.get(roomId);
    if (view === undefined) return;
    view.room = { ...view.room, ...what };
    if (!quiet) this.#changed(roomId);
  }

  /** @returns {boolean} Whether that was news. */
  #markRead() {
    const last = this.rooms.get(this.#openId)?.messages.at(-1)?.seq ?? 0;
    if (!this.#reading || last <= this.readUpTo(this.#openId)) return false;
    this.#marks.set(this.#openId, last);
    return true;
  }

  /**
   * @param {string} roomId
   * @param {number} size
   */
  #trim(roomId, size) {
    const view = this.rooms.get(roomId);
    if (view === undefined || view.messages.length <= size) return;
    view.messages = view.messages.slice(-size);
    view.hasOlder = true;
  }

  /** Asks for the names of those in direct rooms who are not known yet. @param {Room[]} rooms */
  async #nameOthers(rooms) {
    const direct = rooms.filter(({ roomType }) => roomType === 'direct').map((room) => this.otherIn(room));
    const unknown = [...new Set(direct)].filter((id) => !this.#names.has(id)).slice(0, 100);
    if (unknown.length === 0 || this.#names.size >= NAMES_MAX) return;
    try {
      for (const { id, name, username } of await this.#client.api.users(unknown)) this.#names.set(id, name || username);
      this.#changed(null);
    } catch {
      // Asked again with the next list.
    }
  }

  /**
   * @param {Room} room
   * @returns {RoomView}
   */
  #newView(room) {
    const waiting = this.#client.pending.filter(({ roomId }) => roomId === room.id);
    return {
      room, messages: [], waiting, typists: new Map(), live: false, loaded: false, hasOlder: false, loadingOlder: false,
      usedAt: 0,
    };
  }
}

/** @param {RoomView} view */
function latest({ messages, room }) {
  return messages.at(-1)?.createdAt ?? room.createdAt;
}
