// The shapes that travel between the server and the SDK, and the events that the SDK gives to an application. Types
// only: nothing here runs. The shapes are the server's contract; fields may be added there, never changed.

/**
 * A person. Seen by others, `email` and `preferences` are missing.
 * @typedef {object} User
 * @property {string} id
 * @property {string} username
 * @property {string} [email]
 * @property {string} [firstName]
 * @property {string} [lastName]
 * @property {string} [name] First and last name joined, or the username.
 * @property {string} [bio]
 * @property {string} [avatarUrl]
 * @property {Record<string, unknown>} [preferences]
 * @property {string[]} [roles]
 * @property {string} [createdAt]
 * @property {string} [updatedAt]
 */

/**
 * @typedef {object} Room
 * @property {string} id
 * @property {string} name Empty for a direct room.
 * @property {string} [description]
 * @property {'public' | 'private' | 'direct'} roomType
 * @property {string} createdBy
 * @property {string[]} [members] At most 100 of their ids.
 * @property {number} memberCount
 * @property {number} lastSeq
 * @property {string} createdAt
 * @property {string} updatedAt
 */

/**
 * @typedef {object} Message
 * @property {string} id
 * @property {number} seq Its place in the room's log.
 * @property {string} roomId
 * @property {string} userId
 * @property {string} username The sender's name when it was sent.
 * @property {string} content
 * @property {string} messageType
 * @property {Record<string, unknown>} [metadata]
 * @property {string} clientMessageId
 * @property {string} createdAt
 * @property {string} updatedAt
 */

/** @typedef {{userId: string, username: string, role: 'owner' | 'member', joinedAt: string}} Member */

/**
 * A login on one device.
 * @typedef {object} SessionInfo
 * @property {string} id
 * @property {string} device
 * @property {string} ipAddress
 * @property {string} createdAt
 * @property {string} lastUsedAt
 * @property {string} expiresAt
 * @property {boolean} current
 */

/**
 * What a login gives, and what is kept of it.
 * @typedef {object} Session
 * @property {User} user
 * @property {string} accessToken
 * @property {string} refreshToken Empty when the server gives none.
 * @property {number} expiresAtMs When the access token ends, in milliseconds of this machine's clock.
 * @property {number} renewAtMs When to renew it.
 */

/** An entry of a room's log. @typedef {{roomId: string, seq: number, cursor: string} & Record<string, unknown>} Entry */

/**
 * The answer to a join.
 * @typedef {object} JoinAnswer
 * @property {Room} room
 * @property {string} cursor
 * @property {boolean} recovered
 * @property {{event: string, data: Entry}[]} missed
 * @property {boolean} more
 * @property {Message[]} messages
 */

/**
 * A message on its way. `done` resolves with the stored message; it may be ignored, its refusal is an event as well.
 * @typedef {object} Sending
 * @property {string} clientMessageId
 * @property {string} roomId
 * @property {string} content
 * @property {string} [messageType]
 * @property {Record<string, unknown>} [metadata]
 * @property {number} createdAtMs
 * @property {'pending' | 'sent' | 'failed'} state
 * @property {import('./errors.js').SwitchboardError | null} error Why it failed.
 * @property {Message | null} message What was stored.
 * @property {Promise<Message>} done
 */

/**
 * `stopped`: not asked to be connected. `offline`: waits for the next try.
 * @typedef {'stopped' | 'connecting' | 'online' | 'offline'} ConnectionState
 */

/** @typedef {{roomId: string, userId: string, username: string}} Typist */
/** @typedef {'left' | 'removed' | 'closed' | 'refused'} LeaveReason */

/**
 * The events, each with what its listener gets. An entry of a kind that this SDK does not know yet is given as `entry`
 * and under its own name.
 * @typedef {object} Events
 * @property {{state: ConnectionState, error: import('./errors.js').SwitchboardError | null, retryInMs: number}} state
 * @property {{user: User | null}} user Logged in, out, or changed.
 * @property {{code: string, message: string}} session_ended The session is over: show the login.
 * @property {{userId: string, socketId: string, sessionId: string, serverTime: string}} connected
 * @property {{roomId: string, room: Room, messages: Message[]}} room_reset Replace what is shown of the room.
 * @property {{roomId: string, room: Room, recovered: boolean}} room_live Nothing is missing from here on.
 * @property {{roomId: string, reason: LeaveReason, error: import('./errors.js').SwitchboardError | null}} room_left
 * @property {Message & {cursor: string}} new_message
 * @property {Entry & {joined: string[], left: string[], removed: string[], memberCount: number}} members_changed
 * @property {Entry & {room: Room}} room_updated
 * @property {Entry} room_closed
 * @property {{event: string, data: Entry}} entry Every entry, whatever its kind.
 * @property {Typist} typing_start
 * @property {Typist} typing_stop
 * @property {Sending} sending A message of ours has a new state.
 * @property {{roomId: string, expected: number, got: number}} hole Something was missing; it is being fetched.
 * @property {import('./errors.js').SwitchboardError} error The server refused an event that waited for no answer.
 */

export {};
