// Accounts and sessions of the fake server: the REST routes below /auth, in memory. Tokens are random words with a
// table behind them; what matters to the client (lives, rotation, single use, refusals) is as the contract says.

import { randomUUID } from 'node:crypto';

/** A refusal, thrown by any route. */
export class Refusal extends Error {
  constructor(status, code, message = code, errors = undefined) {
    super(message);
    this.status = status;
    this.body = { success: false, statusCode: status, code, message, errors, requestId: 'test' };
  }
}

export class Accounts {
  accessLifeSecs = 900;
  #accounts = new Map();
  #sessions = new Map();
  #access = new Map();
  #refresh = new Map();
  #ws = new Map();

  /** Called with a session's id when it ends. */
  onEnded = () => {};

  register({ username, email, password }) {
    const errors = [];
    if (!/^[\w.-]{3,32}$/.test(username ?? '')) {
      errors.push({ field: 'username', message: 'must be 3 to 32 letters, digits, "_", "." or "-"' });
    }
    if (!(password?.length >= 8)) errors.push({ field: 'password', message: 'must have 8 to 128 characters' });
    if (errors.length > 0) throw new Refusal(400, 'VALIDATION_FAILED', 'Validation failed', errors);
    if (this.#accounts.has(username)) {
      throw new Refusal(400, 'ACCOUNT_EXISTS', 'User with this email or username already exists');
    }
    const now = new Date().toISOString();
    const user = { id: randomUUID(), username, email, name: username, roles: ['user'], createdAt: now, updatedAt: now };
    this.#accounts.set(username, { user, password });
    return this.#openSession(user, 'User created successfully');
  }

  login({ username, email, password }) {
    const found = [...this.#accounts.values()].find(({ user }) => user.username === username || user.email === email);
    if (found?.password !== password) throw new Refusal(401, 'INVALID_CREDENTIALS', 'Invalid credentials');
    return this.#openSession(found.user, 'Login successful');
  }

  refresh({ refreshToken }) {
    const known = this.#refresh.get(refreshToken);
    const session = this.#sessions.get(known?.sid);
    if (session === undefined) throw new Refusal(401, 'TOKEN_INVALID', 'Unauthorized');
    if (known.successor !== undefined && this.#refresh.get(known.successor).successor !== undefined) {
      this.end(known.sid);
      throw new Refusal(401, 'TOKEN_REVOKED', 'Unauthorized');
    }
    known.successor ??= this.#newRefresh(known.sid);
    return { success: true, ...this.#tokens(known.sid, known.successor) };
  }

  /** Who calls. */
  caller(headers) {
    const token = /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1];
    const known = this.#access.get(token);
    const session = this.#sessions.get(known?.sid);
    if (session === undefined) throw new Refusal(401, 'TOKEN_INVALID', 'Unauthorized');
    if (Date.now() >= known.expiresAtMs) throw new Refusal(401, 'TOKEN_EXPIRED', 'Unauthorized');
    return { user: session.user, sid: known.sid };
  }

  wsToken(caller) {
    const token = randomUUID();
    this.#ws.set(token, caller);
    return { success: true, token, expiresIn: 60 };
  }

  /** The holder of a WS token, once. */
  spend(token) {
    const caller = this.#ws.get(token);
    if (!this.#ws.delete(token)) throw new Refusal(401, 'TOKEN_SPENT', 'Unauthorized');
    if (!this.#sessions.has(caller.sid)) throw new Refusal(401, 'TOKEN_REVOKED', 'Unauthorized');
    return caller;
  }

  sessions(caller) {
    const own = [...this.#sessions].filter(([, session]) => session.user.id === caller.user.id);
    return own.map(([id, session]) => ({
      id, device: session.device, ipAddress: '127.0.0.1', createdAt: session.createdAt,
      lastUsedAt: session.createdAt, expiresAt: session.createdAt, current: id === caller.sid,
    }));
  }

  /** Ends a session as a revocation does. */
  end(sid) {
    if (!this.#sessions.delete(sid)) throw new Refusal(404, 'SESSION_NOT_FOUND');
    this.onEnded(sid);
  }

  /** Makes every access token given so far worthless, as a change of keys would. */
  expireAccessTokens() {
    for (const known of this.#access.values()) known.expiresAtMs = 0;
  }

  user(id) {
    return [...this.#accounts.values()].find(({ user }) => user.id === id)?.user;
  }

  #openSession(user, message) {
    const sid = randomUUID();
    const device = 'Chromium on Linux';
    this.#sessions.set(sid, { user, device, createdAt: new Date().toISOString() });
    return { success: true, message, user, ...this.#tokens(sid, this.#newRefresh(sid)) };
  }

  #newRefresh(sid) {
    const token = randomUUID();
    this.#refresh.set(token, { sid, successor: undefined });
    return token;
  }

  #tokens(sid, refreshToken) {
    const accessToken = randomUUID();
    this.#access.set(accessToken, { sid, expiresAtMs: Date.now() + this.accessLifeSecs * 1000 });
    return { accessToken, refreshToken, expiresIn: this.accessLifeSecs };
  }
}
