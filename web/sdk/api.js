// The REST calls that are not about the session itself, one method each, typed. Owns no state: every call goes through
// the session keeper, which adds and renews the token.

/** @import { Member, Message, Room, SessionInfo, User } from './types.js' */
/** @import { SessionKeeper } from './session.js' */

/** @typedef {{roomType?: 'public' | 'private', description?: string}} NewRoom */
/** @typedef {{username?: string, firstName?: string, lastName?: string, bio?: string, avatarUrl?: string, preferences?: Record<string, unknown>}} ProfileChange */
/** @typedef {{nextBefore?: number | null, nextAfter?: number | null, itemsPerPage: number, hasNext: boolean, hasPrevious: boolean}} SeqWindow */

export class Api {
  #session;

  /** @param {SessionKeeper} session */
  constructor(session) {
    this.#session = session;
  }

  /**
   * Any other call below `/api/v1`.
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @returns {Promise<any>}
   */
  request(method, path, body) {
    return this.#session.request(method, path, body);
  }

  /** The caller's rooms. @returns {Promise<Room[]>} */
  async rooms() {
    return (await this.request('GET', '/rooms')).rooms;
  }

  /**
   * A page of the rooms that anyone may join.
   * @param {{search?: string, pageToken?: string, pageSize?: number}} [query]
   * @returns {Promise<{rooms: Room[], nextPageToken: string}>}
   */
  async publicRooms(query = {}) {
    return this.request('GET', `/rooms/public${queryString(query)}`);
  }

  /**
   * @param {string} name
   * @param {NewRoom} [more]
   * @returns {Promise<Room>}
   */
  async createRoom(name, { roomType = 'public', description } = {}) {
    return (await this.request('POST', '/rooms', { name, roomType, description })).room;
  }

  /** The one direct room with a person. @param {string} userId @returns {Promise<Room>} */
  async openDirectRoom(userId) {
    return (await this.request('POST', '/rooms/direct', { userId })).room;
  }

  /** @param {string} roomId @returns {Promise<Room>} */
  async room(roomId) {
    return (await this.request('GET', `/rooms/${encodeURIComponent(roomId)}`)).room;
  }

  /**
   * @param {string} roomId
   * @param {{name?: string, description?: string}} change
   * @returns {Promise<Room>}
   */
  async updateRoom(roomId, change) {
    return (await this.request('PATCH', `/rooms/${encodeURIComponent(roomId)}`, change)).room;
  }

  /** Closes the room for everybody. @param {string} roomId @returns {Promise<void>} */
  async deleteRoom(roomId) {
    await this.request('DELETE', `/rooms/${encodeURIComponent(roomId)}`);
  }

  /** Ends the caller's membership. @param {string} roomId @returns {Promise<void>} */
  async leaveRoom(roomId) {
    await this.request('POST', `/rooms/${encodeURIComponent(roomId)}/leave`);
  }

  /**
   * @param {string} roomId
   * @param {{pageToken?: string, pageSize?: number}} [query]
   * @returns {Promise<{members: Member[], nextPageToken: string}>}
   */
  async members(roomId, query = {}) {
    return this.request('GET', `/rooms/${encodeURIComponent(roomId)}/members${queryString(query)}`);
  }

  /** @param {string} roomId @param {string} userId @returns {Promise<void>} */
  async addMember(roomId, userId) {
    await this.request('POST', `/rooms/${encodeURIComponent(roomId)}/members`, { userId });
  }

  /** @param {string} roomId @param {string} userId @returns {Promise<void>} */
  async removeMember(roomId, userId) {
    await this.request('DELETE', `/rooms/${encodeURIComponent(roomId)}/members/${encodeURIComponent(userId)}`);
  }

  /**
   * Messages before or after a `seq`, in the order of `seq`; the newest without either.
   * @param {string} roomId
   * @param {{before?: number, after?: number, limit?: number}} [query]
   * @returns {Promise<{messages: Message[], pagination: SeqWindow}>}
   */
  async messages(roomId, query = {}) {
    return this.request('GET', `/rooms/${encodeURIComponent(roomId)}/messages${queryString(query)}`);
  }

  /** People as others see them. @param {string[]} ids At most 100. @returns {Promise<User[]>} */
  async users(ids) {
    return (await this.request('GET', `/users${queryString({ ids: ids.join(',') })}`)).users;
  }

  /** The caller's own profile. @returns {Promise<User>} */
  async profile() {
    return (await this.request('GET', '/auth/profile')).user;
  }

  /** Changes the fields that are given. @param {ProfileChange} change @returns {Promise<User>} */
  async updateProfile(change) {
    const { user } = await this.request('PUT', '/auth/profile', change);
    this.#session.setUser(user);
    return user;
  }

  /**
   * Ends every other session.
   * @param {string} currentPassword
   * @param {string} newPassword
   * @returns {Promise<void>}
   */
  async changePassword(currentPassword, newPassword) {
    await this.request('PUT', '/auth/password', { currentPassword, newPassword });
  }

  /** @returns {Promise<SessionInfo[]>} */
  async sessions() {
    return (await this.request('GET', '/auth/sessions')).sessions;
  }

  /** @param {string} sessionId @returns {Promise<void>} */
  async endSession(sessionId) {
    await this.request('DELETE', `/auth/sessions/${encodeURIComponent(sessionId)}`);
  }

  /** Ends every session but this one. @returns {Promise<void>} */
  async endOtherSessions() {
    await this.request('DELETE', '/auth/sessions');
  }
}

/**
 * @param {Record<string, string | number | undefined>} query
 * @returns {string}
 */
function queryString(query) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== '');
  if (given.length === 0) return '';
  return `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`;
}
