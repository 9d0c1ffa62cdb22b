// The server's contract in memory: REST routes and the Socket.IO events, with knobs that break it in the ways that
// networks and servers do. Knows no transport: transports.js and preview.js bring calls and frames.

import { randomUUID } from 'node:crypto';
import { Accounts, Refusal } from './accounts.js';
import { RoomLogs } from './room-log.js';

export class FakeServer {
  accounts = new Accounts();
  rooms = new RoomLogs();
  pingIntervalMs = 25_000;
  pingTimeoutMs = 20_000;
  /** Every REST call, as "METHOD path". */
  calls = [];
  /** Every send_message that arrived, retries too. */
  sends = [];
  /** The name of every event that arrived. */
  events = [];
  /** Every CONNECT's auth object. */
  connects = [];
  /** Answers that replace the real one of the next send_message, one each: a Refusal, or 'store' or 'lose' (no ack). */
  nextSends = [];
  /** REST calls to refuse: path → Refusal, each once. */
  nextCalls = new Map();
  /** Live entries not to deliver: (peer, entry) → boolean. */
  dropLive = () => false;
  #peers = new Set();

  constructor() {
    this.rooms.onEntry = (room, entry) => this.#deliver(room, entry);
    this.accounts.onEnded = (sid) => this.#endSession(sid);
    this.general = this.rooms.create('general', 'public', undefined);
  }

  /** One REST call: → {status, body}. */
  handle(method, url, headers, body) {
    const { pathname, searchParams } = new URL(url, 'http://fake');
    const path = pathname.replace(/^\/api(\/v1)?/, '');
    this.calls.push(`${method} ${path}`);
    try {
      const refusal = this.nextCalls.get(path);
      this.nextCalls.delete(path);
      if (refusal !== undefined) throw refusal;
      return this.#route(method, path, searchParams, headers, body ?? {});
    } catch (failure) {
      if (failure instanceof Refusal) return { status: failure.status, body: failure.body };
      throw failure;
    }
  }

  #route(method, path, query, headers, body) {
    const open = {
      'POST /auth/register': () => ({ status: 201, body: this.accounts.register(body) }),
      'POST /auth/login': () => ok(this.accounts.login(body)),
      'POST /auth/refresh': () => ok(this.accounts.refresh(body)),
    }[`${method} ${path}`];
    if (open !== undefined) return open();
    const caller = this.accounts.caller(headers);
    const { user } = caller;
    const own = {
      'POST /auth/logout': () => ok(this.accounts.end(caller.sid)),
      'GET /auth/ws-token': () => ok(this.accounts.wsToken(caller)),
      'GET /auth/profile': () => ok({ user }),
      'GET /auth/sessions': () => ok({ sessions: this.accounts.sessions(caller) }),
      'DELETE /auth/sessions': () => {
        this.accounts.sessions(caller).filter(({ current }) => !current).forEach(({ id }) => this.accounts.end(id));
        return ok({});
      },
      'GET /users': () => ok({ users: query.get('ids').split(',').map((id) => this.accounts.user(id)).filter(Boolean) }),
      'GET /rooms': () => ok({ rooms: this.#list((room) => isMember(room, user)) }),
      'GET /rooms/public': () => {
        const search = (query.get('search') ?? '').toLowerCase();
        const found = this.#list((room) => room.roomType === 'public' && room.name.toLowerCase().includes(search));
        return ok({ rooms: found, nextPageToken: '' });
      },
      'POST /rooms': () => this.#createRoom(user, body),
      'POST /rooms/direct': () => this.#direct(user, body.userId),
    }[`${method} ${path}`];
    if (own !== undefined) return own();
    return this.#roomRoute(method, path, query, caller, body);
  }

  #roomRoute(method, path, query, caller, body) {
    const [, area, id, what, which] = path.split('/');
    if (area === 'auth' && id === 'sessions') return ok(this.accounts.end(what));
    if (area !== 'rooms') throw new Refusal(404, 'NOT_FOUND');
    const room = this.rooms.get(id, caller.user);
    switch (`${method} ${what ?? ''}`) {
      case 'GET ': return ok({ room: this.rooms.shape(room) });
      case 'DELETE ': return ok(this.rooms.close(room));
      case 'POST join': return ok(this.rooms.enter(room, caller.user));
      case 'POST leave': return ok(this.rooms.remove(room, caller.user.id, 'left'));
      case 'GET messages': return ok(this.rooms.history(room, query));
      case 'POST members': return ok(this.#addMember(room, body.userId));
      case 'DELETE members': return ok(this.rooms.remove(room, which));
      case 'GET members': {
        const members = room.members.map(({ user, role, joinedAt }) => ({ userId: user.id, username: user.username, role, joinedAt }));
        return ok({ members, nextPageToken: '' });
      }
      default: throw new Refusal(404, 'NOT_FOUND');
    }
  }

  #addMember(room, userId) {
    const user = this.accounts.user(userId);
    if (user === undefined) throw new Refusal(404, 'USER_NOT_FOUND', 'User not found');
    this.rooms.add(room, user);
  }

  #list(filter) {
    return this.rooms.list(filter).map((room) => this.rooms.shape(room));
  }

  #createRoom(user, { name, roomType }) {
    if (typeof name !== 'string' || name.trim() === '') {
      const errors = [{ field: 'name', message: 'must have 1 to 100 characters' }];
      throw new Refusal(400, 'VALIDATION_FAILED', 'Validation failed', errors);
    }
    return { status: 201, body: { success: true, room: this.rooms.shape(this.rooms.create(name.trim(), roomType, user)) } };
  }

  #direct(user, userId) {
    const other = this.accounts.user(userId);
    if (other === undefined) throw new Refusal(404, 'USER_NOT_FOUND', 'User not found');
    const known = this.rooms.list((room) => room.roomType === 'direct' && isMember(room, user) && isMember(room, other))[0];
    const room = known ?? this.rooms.create('', 'direct', undefined);
    if (known === undefined) room.members.push({ user, role: 'member' }, { user: other, role: 'member' });
    return { status: known ? 200 : 201, body: { success: true, room: this.rooms.shape(room) } };
  }

  /** A new WebSocket: `wire` is {send(text), close()}. → {onText, onClose}. */
  accept(wire) {
    const peer = { wire, caller: null, rooms: new Set(), timer: null };
    const handshake = { sid: randomUUID(), upgrades: [], pingInterval: this.pingIntervalMs, pingTimeout: this.pingTimeoutMs, maxPayload: 65536 };
    wire.send(`0${JSON.stringify(handshake)}`);
    peer.timer = setInterval(() => wire.send('2'), this.pingIntervalMs);
    peer.timer.unref?.();
    this.#peers.add(peer);
    return {
      onText: (text) => this.#onText(peer, text),
      onClose: () => {
        clearInterval(peer.timer);
        this.#peers.delete(peer);
      },
    };
  }

  /** Sends an event to everybody who is in the room. */
  tell(roomId, event, data, { but } = {}) {
    for (const peer of this.#peers) {
      if (peer.rooms.has(roomId) && peer.caller.user.id !== but) emit(peer, event, data);
    }
  }

  /** Stops the heartbeat of every connection, as a dead network does. */
  stall() {
    for (const peer of this.#peers) clearInterval(peer.timer);
  }

  #onText(peer, text) {
    if (text.startsWith('40')) return this.#onConnect(peer, JSON.parse(text.slice(2)));
    const [, id, json] = /^42(\d*)(\[.*)$/s.exec(text) ?? [];
    if (json === undefined || peer.caller === null) return;
    const [event, data] = JSON.parse(json);
    let answer;
    try {
      answer = this.#onEvent(peer, event, data);
    } catch (failure) {
      if (!(failure instanceof Refusal)) throw failure;
      answer = failure.body;
    }
    if (answer !== null) peer.wire.send(`43${id}${JSON.stringify([answer])}`);
  }

  #onConnect(peer, auth) {
    this.connects.push(auth);
    try {
      peer.caller = this.accounts.spend(auth.token);
    } catch (failure) {
      return peer.wire.send(`44${JSON.stringify({ message: failure.message, data: failure.body })}`);
    }
    peer.wire.send(`40${JSON.stringify({ sid: randomUUID() })}`);
    const { user, sid } = peer.caller;
    emit(peer, 'connected', { userId: user.id, socketId: 's', sessionId: sid, serverTime: new Date().toISOString() });
    for (const [roomId, cursor] of Object.entries(auth.rooms ?? {})) {
      try {
        emit(peer, 'room_joined', { roomId, ...this.#join(peer, { roomId, cursor }) });
      } catch (failure) {
        emit(peer, 'room_joined', { roomId, ...failure.body });
      }
    }
  }

  #onEvent(peer, event, data) {
    const { user } = peer.caller;
    this.events.push(event);
    switch (event) {
      case 'join_room': return this.#join(peer, data);
      case 'leave_room':
        peer.rooms.delete(data.roomId);
        return { success: true };
      case 'send_message': return this.#send(user, data);
      case 'typing_start':
      case 'typing_stop':
        this.tell(data.roomId, event, { roomId: data.roomId, userId: user.id, username: user.username }, { but: user.id });
        return { success: true };
      default: throw new Refusal(404, 'NOT_FOUND');
    }
  }

  #join(peer, { roomId, cursor }) {
    const room = this.rooms.get(roomId, peer.caller.user);
    this.rooms.enter(room, peer.caller.user);
    const answer = this.rooms.joined(room, cursor);
    if (!answer.more) peer.rooms.add(roomId);
    return answer;
  }

  #send(user, data) {
    this.sends.push(data);
    const fate = this.nextSends.shift();
    if (fate instanceof Refusal) throw fate;
    if (fate === 'lose') return null;
    const message = this.rooms.send(user, data);
    return fate === 'store' ? null : { success: true, message };
  }

  #deliver(room, entry) {
    for (const peer of this.#peers) {
      if (!peer.rooms.has(room.id)) continue;
      if (!this.dropLive(peer, entry)) emit(peer, entry.event, entry.data);
      if (entry.data.removed?.includes(peer.caller.user.id)) peer.rooms.delete(room.id);
    }
  }

  #endSession(sid) {
    for (const peer of [...this.#peers]) {
      if (peer.caller?.sid !== sid) continue;
      emit(peer, 'session_ended', { code: 'TOKEN_REVOKED', message: 'This session has ended.' });
      peer.wire.close();
    }
  }
}

function emit(peer, event, data) {
  peer.wire.send(`42${JSON.stringify([event, data])}`);
}

function ok(body) {
  return { status: 200, body: { success: true, ...body } };
}

function isMember(room, user) {
  return room.members.some((each) => each.user.id === user.id);
}
