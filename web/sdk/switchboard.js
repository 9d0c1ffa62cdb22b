// Switchboard's client: accounts over REST, rooms and messages live over one WebSocket, without anything else to load.
// This file is the entry and puts the parts together; each part's file says what it owns. Options: options.js; events
// and shapes: types.js.
//
//     import { Switchboard } from '/sdk/switchboard.js';
//     const client = new Switchboard();
//     client.on('new_message', (message) => console.log(message.username, message.content));
//     await client.login('ada', 'correct horse');
//     client.connect();
//     await client.join(roomId);          // resumed by itself from now on: nothing missing, nothing twice
//     await client.send(roomId, 'Hello').done;

import { Api } from './api.js';
import { Connection } from './connection.js';
import { Emitter } from './emitter.js';
import { SwitchboardError } from './errors.js';
import { resolveOptions } from './options.js';
import { Outbox } from './outbox.js';
import { Rooms } from './rooms.js';
import { SessionKeeper } from './session.js';
import { Typing } from './typing.js';

export { SwitchboardError } from './errors.js';
export { STORAGE_KEYS } from './options.js';

/** @import { Options } from './options.js' */
/** @import { SendExtra } from './outbox.js' */
/** @import { ConnectionState, Events, Room, Sending, User } from './types.js' */

/** @typedef {{username: string, email: string, password: string, firstName?: string, lastName?: string, invitation?: string}} Registration */

/** @extends {Emitter<Events>} */
export class Switchboard extends Emitter {
  #session;
  #connection;
  #rooms;
  #outbox;
  #typing;
  #api;
  #sessionId = '';

  /** @param {Partial<Options>} [given] */
  constructor(given = {}) {
    super();
    const options = resolveOptions(given);
    /** @type {(event: string, data: any) => Promise<any>} */
    const request = (event, data) => this.#connection.request(event, data);
    this.#session = new SessionKeeper(options, (ended) => this.#end(ended));
    this.#api = new Api(this.#session);
    this.#typing = new Typing(options, { request, emit: (event, typist) => this.emit(event, typist) });
    this.#outbox = new Outbox(options, { request, onChange: (sending) => this.emit('sending', sending) });
    this.#rooms = new Rooms(options, {
      request,
      ownUserId: () => this.user?.id ?? '',
      emit: (event, detail) => this.emit(event, detail),
      onOwnMessage: (message) => this.#outbox.settle(message),
    });
    this.#connection = new Connection(options, {
      token: async () => (await this.#api.request('GET', '/auth/ws-token')).token,
      rooms: (bare) => this.#rooms.resume(bare),
      onOnline: () => this.#online(),
      onOffline: () => this.#offline(),
      onEvent: (event, data) => this.#onEvent(event, data),
      onState: (state, error, retryInMs) => this.emit('state', { state, error, retryInMs }),
    });
    if (this.user !== null) this.#outbox.open(this.user.id);
  }

  /** Who is logged in. @returns {User | null} */
  get user() {
    return this.#session.current?.user ?? null;
  }

  /** @returns {ConnectionState} */
  get state() {
    return this.#connection.state;
  }

  /** The session's id, known once connected; empty before. @returns {string} */
  get sessionId() {
    return this.#sessionId;
  }

  /** The REST calls. @returns {Api} */
  get api() {
    return this.#api;
  }

  /** What has not been sent yet. @returns {Sending[]} */
  get pending() {
    return this.#outbox.pending;
  }

  /** The rooms that are followed. @returns {string[]} */
  get roomIds() {
    return this.#rooms.roomIds;
  }

  /**
   * Makes an account and logs in to it.
   * @param {Registration} registration
   * @returns {Promise<User>}
   */
  register(registration) {
    return this.#open('/auth/register', { ...registration });
  }

  /**
   * @param {string} login A username or an email; the latter has an `@`, the former never.
   * @param {string} password
   * @returns {Promise<User>}
   * @throws {SwitchboardError} MFA_REQUIRED for an account with a second factor: its `mfa.ticket` is for `completeLogin`.
   */
  login(login, password) {
    const who = login.includes('@') ? { email: login } : { username: login };
    return this.#open('/auth/login', { ...who, password });
  }

  /**
   * Goes on with a login that was asked for a second factor.
   * @param {string} ticket Of the error's `mfa`.
   * @param {string} code The six digits that the authenticator app shows, or a recovery code.
   * @param {{rememberDevice?: boolean}} [more] Whether this device need not give a code for the next while.
   * @returns {Promise<User>}
   */
  completeLogin(ticket, code, { rememberDevice = false } = {}) {
    return this.#open('/auth/login/mfa', { ticket, code, rememberDevice });
  }

  /**
   * Has a link for a new password mailed to the account with this address. The answer is the same when there is none.
   * @param {string} email
   * @returns {Promise<void>}
   */
  forgotPassword(email) {
    return this.#session.ask('/auth/password/forgot', { email });
  }

  /**
   * Sets a new password; every session of the account ends, and nobody is logged in by it.
   * @param {string} token Of the mailed link, behind `#reset-password=`.
   * @param {string} newPassword
   * @returns {Promise<void>}
   * @throws {SwitchboardError} EMAIL_TOKEN_INVALID when the link was used or has expired.
   */
  resetPassword(token, newPassword) {
    return this.#session.ask('/auth/password/reset', { token, newPassword });
  }

  /**
   * Shows that an address is its account's.
   * @param {string} token Of the mailed link, behind `#verify-email=`.
   * @returns {Promise<void>}
   * @throws {SwitchboardError} EMAIL_TOKEN_INVALID when the link was used or has expired.
   */
  verifyEmail(token) {
    return this.#session.ask('/auth/email/verify', { token });
  }

  /**
   * Has another link mailed that shows whose an address is. The answer is the same when there is no such account.
   * @param {string} email
   * @returns {Promise<void>}
   */
  resendVerification(email) {
    return this.#session.ask('/auth/email/verify/resend', { email });
  }

  /**
   * Ends the session, on the server too. Here it is over even when the server cannot be told, which rejects.
   * @returns {Promise<void>}
   */
  async logout() {
    if (this.user === null) return;
    const told = this.#api.request('POST', '/auth/logout');
    this.#connection.stop();
    try {
      await told;
    } catch (failure) {
      // Refused because the session has ended already: what was wanted.
      if (SwitchboardError.from(failure).status !== 401) throw failure;
    } finally {
      if (this.user !== null) this.#forget(new SwitchboardError('SESSION_ENDED', 'Logged out.'), { keep: false });
    }
  }

  /** Renews the tokens now; they are renewed by themselves in time. @returns {Promise<void>} */
  async refresh() {
    await this.#session.renew();
  }

  /**
   * Connects and stays connected until `disconnect`, `logout` or the end of the session.
   * @throws {SwitchboardError} NOT_LOGGED_IN.
   */
  connect() {
    if (this.user === null) throw new SwitchboardError('NOT_LOGGED_IN', 'Log in first.');
    this.#connection.start();
  }

  /** Closes the connection. Rooms and unsent messages wait for the next `connect`. */
  disconnect() {
    this.#connection.stop();
  }

  /** Tries to connect at once instead of after the pause. */
  retryNow() {
    this.#connection.wake();
  }

  /**
   * Follows a room, through every reconnection, until `leave`. Makes the user a member of a public room.
   * @param {string} roomId
   * @param {{cursor?: string}} [from] Where an earlier page ended; without it `room_reset` brings the newest messages.
   * @returns {Promise<Room>} Once nothing is missing.
   */
  join(roomId, { cursor } = {}) {
    return this.#rooms.join(roomId, cursor);
  }

  /** Stops following a room; membership stays (see `api.leaveRoom`). @param {string} roomId */
  leave(roomId) {
    this.#rooms.leave(roomId);
  }

  /**
   * Where a room stands, for a later `join`.
   * @param {string} roomId
   * @returns {string | null}
   */
  cursorOf(roomId) {
    return this.#rooms.cursorOf(roomId);
  }

  /**
   * Sends a message, now or once connected, in order, and once: however often it has to go over the wire, the room has
   * it once. To try a failed one again, give its `clientMessageId`.
   * @param {string} roomId
   * @param {string} content
   * @param {SendExtra} [extra]
   * @returns {Sending}
   * @throws {SwitchboardError} NOT_LOGGED_IN, OUTBOX_FULL.
   */
  send(roomId, content, extra = {}) {
    if (this.user === null) throw new SwitchboardError('NOT_LOGGED_IN', 'Log in first.');
    return this.#outbox.add(roomId, content, extra);
  }

  /** The user types: call it at every key. @param {string} roomId */
  typing(roomId) {
    this.#typing.start(roomId);
  }

  /** The user has stopped. @param {string} roomId */
  stopTyping(roomId) {
    this.#typing.stop(roomId);
  }

  /**
   * @param {'/auth/login' | '/auth/login/mfa' | '/auth/register'} path
   * @param {Record<string, unknown>} body
   * @returns {Promise<User>}
   */
  async #open(path, body) {
    if (this.user !== null) await this.logout().catch(() => {});
    const user = await this.#session.open(path, body);
    this.#outbox.open(user.id);
    this.emit('user', { user });
    return user;
  }

  #online() {
    this.#rooms.online();
    this.#outbox.online();
  }

  #offline() {
    this.#rooms.offline();
    this.#outbox.offline();
    this.#typing.clear();
  }

  /**
   * @param {string} event
   * @param {any} data
   */
  #onEvent(event, data) {
    switch (event) {
      case 'connected':
        this.#sessionId = data.sessionId;
        this.emit('connected', data);
        break;
      case 'room_joined':
        this.#rooms.onRoomJoined(data);
        break;
      case 'typing_start':
      case 'typing_stop':
        this.#typing.onEvent(event, data);
        break;
      case 'session_ended':
        this.#end(data);
        break;
      case 'error':
        this.emit('error', SwitchboardError.fromBody(data));
        break;
      default:
        // Kinds of entries may be added to the protocol; each has a room and a seq.
        if (typeof data?.roomId !== 'string' || typeof data.seq !== 'number') break;
        if (event === 'new_message') this.#typing.onMessage(data);
        this.#rooms.onEntry(event, data);
    }
  }

  /** The server has ended the session. @param {{code: string, message: string}} ended */
  #end({ code, message }) {
    if (this.user === null) return;
    this.#forget(new SwitchboardError('SESSION_ENDED', message, { status: 401 }), { keep: true });
    this.emit('session_ended', { code, message });
  }

  /**
   * @param {SwitchboardError} error
   * @param {{keep: boolean}} how
   */
  #forget(error, how) {
    this.#connection.stop();
    this.#session.clear();
    this.#rooms.clear(error);
    this.#outbox.close(error, how);
    this.#sessionId = '';
    this.emit('user', { user: null });
  }
}
