// Rooms of the fake server: each a log of entries with a dense seq, joins with resume by cursor, once-only sends and
// history. In memory; the answers are those of the contract.

import { randomUUID } from 'node:crypto';
import { Refusal } from './accounts.js';

const PAGE = 50;

export class RoomLogs {
  /** How many entries one join brings. */
  missedMax = 500;
  #rooms = new Map();
  /** The random part of every cursor; `restore` makes a new one. */
  #logId = randomUUID();

  /** Called with each new entry: (room, {event, data}). */
  onEntry = () => {};

  create(name, roomType, owner, id = randomUUID()) {
    const createdAt = new Date().toISOString();
    const room = { id, name, roomType, createdBy: owner?.id ?? 'system', createdAt, members: [], log: [], sends: new Map() };
    if (owner !== undefined) room.members.push({ user: owner, role: 'owner', joinedAt: createdAt });
    this.#rooms.set(id, room);
    return room;
  }

  get(id, user) {
    const room = this.#rooms.get(id);
    const member = room?.members.some((each) => each.user.id === user?.id);
    if (room === undefined || (room.roomType !== 'public' && user !== undefined && !member)) {
      throw new Refusal(404, 'ROOM_NOT_FOUND', 'Room not found');
    }
    return room;
  }

  list(filter) {
    return [...this.#rooms.values()].filter(filter);
  }

  shape(room) {
    return {
      id: room.id, name: room.name, description: '', roomType: room.roomType, createdBy: room.createdBy,
      members: room.members.map(({ user }) => user.id), memberCount: room.members.length, lastSeq: room.log.length,
      createdAt: room.createdAt, updatedAt: room.createdAt,
    };
  }

  cursor(seq) {
    return `${this.#logId}.${seq}`;
  }

  /** As after a restored backup: no cursor given so far holds any more. */
  restore() {
    this.#logId = randomUUID();
  }

  append(room, event, fields) {
    const seq = room.log.length + 1;
    const entry = { event, data: { roomId: room.id, seq, ...fields(seq), cursor: this.cursor(seq) } };
    room.log.push(entry);
    this.onEntry(room, entry);
    return entry.data;
  }

  enter(room, user) {
    if (room.members.some((each) => each.user.id === user.id)) return;
    if (room.roomType !== 'public') throw new Refusal(404, 'ROOM_NOT_FOUND', 'Room not found');
    this.add(room, user);
  }

  add(room, user) {
    room.members.push({ user, role: 'member', joinedAt: new Date().toISOString() });
    this.#membersChanged(room, { joined: [user.id] });
  }

  remove(room, userId, how = 'removed') {
    const at = room.members.findIndex((each) => each.user.id === userId);
    if (at < 0) return;
    room.members.splice(at, 1);
    this.#membersChanged(room, { [how]: [userId] });
  }

  close(room) {
    this.append(room, 'room_closed', () => ({}));
    this.#rooms.delete(room.id);
  }

  send(user, { roomId, content, messageType = 'text', metadata = {}, clientMessageId = randomUUID() }) {
    const room = this.get(roomId, user);
    if (!room.members.some((each) => each.user.id === user.id)) throw new Refusal(403, 'NOT_A_MEMBER');
    if (typeof content !== 'string' || content.trim() === '') {
      throw new Refusal(400, 'VALIDATION_FAILED', 'Validation failed', [{ field: 'content', message: 'must not be blank' }]);
    }
    const key = `${user.id} ${clientMessageId}`;
    const known = room.sends.get(key);
    if (known !== undefined) return known;
    const createdAt = new Date().toISOString();
    const { cursor, ...message } = this.append(room, 'new_message', (seq) => ({
      id: randomUUID(), userId: user.id, username: user.username, content, messageType, metadata, clientMessageId,
      createdAt, updatedAt: createdAt, seq,
    }));
    room.sends.set(key, message);
    return message;
  }

  /** The ack of join_room, of a member. */
  joined(room, cursor) {
    const head = room.log.length;
    const base = { success: true, room: this.shape(room), messages: [], missed: [], more: false };
    if (cursor !== undefined && !/^[\w-]+\.\d+$/.test(cursor)) {
      throw new Refusal(400, 'VALIDATION_FAILED', 'Validation failed', [{ field: 'cursor', message: 'is no cursor' }]);
    }
    const [logId, seq] = cursor?.split('.') ?? [];
    if (logId !== this.#logId || Number(seq) > head) {
      const messages = this.messages(room).slice(-PAGE);
      return { ...base, cursor: this.cursor(head), recovered: false, messages };
    }
    const missed = room.log.slice(Number(seq), Number(seq) + this.missedMax);
    const reached = Number(seq) + missed.length;
    return { ...base, cursor: this.cursor(reached), recovered: true, missed, more: reached < head };
  }

  messages(room) {
    return room.log.filter(({ event }) => event === 'new_message').map(({ data: { cursor, ...message } }) => message);
  }

  history(room, query) {
    const before = Number(query.get('before') ?? Infinity);
    const limit = Number(query.get('limit') ?? PAGE);
    const all = this.messages(room).filter(({ seq }) => seq < before);
    const messages = all.slice(-limit);
    const hasNext = all.length > messages.length;
    return {
      success: true, message: 'Message history retrieved successfully', messages,
      pagination: { nextBefore: hasNext ? messages[0].seq : null, nextAfter: null, itemsPerPage: limit, hasNext, hasPrevious: false },
    };
  }

  #membersChanged(room, change) {
    const memberCount = room.members.length;
    this.append(room, 'members_changed', () => ({ joined: [], left: [], removed: [], ...change, memberCount }));
  }
}
