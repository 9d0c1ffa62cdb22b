// The session: tokens, their renewal, and REST calls made with them. Owns what is kept in storage. Knows nothing of
// sockets or rooms; switchboard.js decides what the end of a session means.

import { Answers } from './answers.js';
import { SwitchboardError } from './errors.js';
import { STORAGE_KEYS, after, inBackground } from './options.js';

/** @import { Options } from './options.js' */
/** @import { Session, User } from './types.js' */

/** The REST routes of the version that this SDK speaks. */
const API = '/api/v1';

/** Tabs of one browser tell each other of renewed tokens by this name. */
const CHANNEL = 'switchboard.session';

/**
 * One REST call, without a session.
 * @param {Options} options
 * @param {string} method
 * @param {string} path Below the API's root.
 * @param {{body?: unknown, bearer?: string, answers?: Answers}} [extra] With `answers`, one that is known already is not sent
 *   again.
 * @returns {Promise<any>} The answer's JSON.
 * @throws {SwitchboardError}
 */
export async function call(options, method, path, { body, bearer, answers } = {}) {
  /** @type {Record<string, string>} */
  const headers = { accept: 'application/json' };
  if (body !== undefined) headers['content-type'] = 'application/json';
  if (bearer !== undefined) headers.authorization = `Bearer ${bearer}`;
  const known = method === 'GET' ? answers?.find(path) : undefined;
  if (known !== undefined) headers['if-none-match'] = known.etag;
  const abort = new AbortController();
  const cancel = after(options.requestTimeoutMs, () => abort.abort());
  try {
    const response = await options.fetch(`${options.url}${API}${path}`, {
      method, headers, signal: abort.signal, credentials: 'omit', cache: 'no-store',
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (response.status === 304 && known !== undefined) return parseJson(known.text);
    const text = await response.text();
    const answer = parseJson(text);
    if (response.ok && answer?.success !== false) {
      if (method === 'GET') answers?.keep(path, response.headers.get('etag'), text);
      return answer;
    }
    const retryAfterMs = (Number(response.headers.get('retry-after')) || 0) * 1000;
    throw SwitchboardError.fromBody(answer, { status: response.status, retryAfterMs });
  } catch (failure) {
    if (failure instanceof SwitchboardError) throw failure;
    if (abort.signal.aborted) {
      throw new SwitchboardError('TIMEOUT', 'The server took too long to answer.', { cause: failure });
    }
    throw new SwitchboardError('NETWORK_ERROR', 'The server cannot be reached.', { cause: failure });
  } finally {
    cancel();
  }
}

/**
 * @param {string} text
 * @returns {any} Null for what is no JSON.
 */
function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export class SessionKeeper {
  /** @type {Session | null} */
  #session = null;
  /** @type {Promise<Session> | null} */
  #renewing = null;
  #answers = new Answers();
  #cancelRenewal = () => {};
  /** @type {BroadcastChannel | null} */
  #channel = null;
  #options;
  #onEnded;

  /**
   * @param {Options} options
   * @param {(ended: {code: string, message: string}) => void} onEnded The server says that the session is over.
   */
  constructor(options, onEnded) {
    this.#options = options;
    this.#onEnded = onEnded;
    this.#use(this.#stored());
  }

  /** @returns {Session | null} */
  get current() {
    return this.#session;
  }

  /**
   * Logs in or registers: all answer alike.
   * @param {'/auth/login' | '/auth/login/mfa' | '/auth/register'} path
   * @param {Record<string, unknown>} body
   * @returns {Promise<User>}
   */
  async open(path, body) {
    const known = path === '/auth/register' ? body : { ...body, deviceToken: this.#deviceToken() };
    const answer = await call(this.#options, 'POST', path, { body: known });
    if (typeof answer?.deviceToken === 'string') this.#keepDeviceToken(answer.deviceToken);
    const session = this.#sessionOf(answer, answer.user);
    this.#keep(session);
    return session.user;
  }

  /**
   * A call for which nobody need be logged in and that opens no session.
   * @param {string} path
   * @param {Record<string, unknown>} body
   * @returns {Promise<void>}
   */
  async ask(path, body) {
    await call(this.#options, 'POST', path, { body });
  }

  /** @returns {string | undefined} */
  #deviceToken() {
    try {
      return this.#options.deviceStorage?.getItem(STORAGE_KEYS.device) ?? undefined;
    } catch {
      return undefined;
    }
  }

  /** @param {string} token */
  #keepDeviceToken(token) {
    try {
      this.#options.deviceStorage?.setItem(STORAGE_KEYS.device, token);
    } catch {
      // A full or forbidden store makes this a new device at the next login, nothing more.
    }
  }

  /** Forgets the session here. */
  clear() {
    this.#keep(null);
  }

  /** The account's data have changed. @param {User} user */
  setUser(user) {
    if (this.#session !== null) this.#keep({ ...this.#session, user });
  }

  /**
   * A REST call of the session. The access token is renewed first when it is due, and once more when it is refused.
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @returns {Promise<any>}
   * @throws {SwitchboardError} NOT_LOGGED_IN without a session.
   */
  async request(method, path, body) {
    const session = await this.#fresh();
    const answers = this.#answers;
    try {
      return await call(this.#options, method, path, { body, bearer: session.accessToken, answers });
    } catch (failure) {
      const error = SwitchboardError.from(failure);
      // A wrong password or code is a 401 as well, and no matter of tokens.
      const proof = ['INVALID_CREDENTIALS', 'MFA_REQUIRED', 'MFA_CODE_INVALID'].includes(error.code);
      if (error.status !== 401 || proof) throw error;
      const renewed = await this.renew(session.accessToken);
      return await call(this.#options, method, path, { body, bearer: renewed.accessToken, answers });
    }
  }

  /**
   * Fresh tokens. Calls at the same time share one request.
   * @param {string} [refused] The access token that was refused: nothing is done when it has been replaced since.
   * @returns {Promise<Session>}
   */
  renew(refused) {
    this.#adoptStored();
    const session = this.#session;
    if (session === null) return Promise.reject(notLoggedIn());
    if (refused !== undefined && session.accessToken !== refused) return Promise.resolve(session);
    this.#renewing ??= this.#renew(session).finally(() => (this.#renewing = null));
    return this.#renewing;
  }

  /** @returns {Promise<Session>} */
  async #fresh() {
    const session = this.#session;
    if (session === null) throw notLoggedIn();
    if (Date.now() < session.renewAtMs) return session;
    try {
      return await this.renew();
    } catch (failure) {
      // The token may still be good for its last minute while the renewal meets a bad moment.
      if (this.#session !== null && Date.now() < session.expiresAtMs) return this.#session;
      throw failure;
    }
  }

  /**
   * @param {Session} session
   * @returns {Promise<Session>}
   */
  async #renew(session) {
    try {
      if (session.refreshToken === '') throw new SwitchboardError('TOKEN_EXPIRED', 'Unauthorized', { status: 401 });
      const body = { refreshToken: session.refreshToken };
      const answer = await call(this.#options, 'POST', '/auth/refresh', { body });
      if (this.#session?.refreshToken !== session.refreshToken) return this.#session ?? Promise.reject(notLoggedIn());
      const renewed = this.#sessionOf(answer, this.#session.user);
      this.#keep(renewed);
      this.#channel?.postMessage({ from: session.refreshToken, session: renewed });
      return renewed;
    } catch (failure) {
      const error = SwitchboardError.from(failure);
      const replaced = this.#session?.refreshToken !== session.refreshToken;
      if (error.status === 401 && !replaced) this.#onEnded({ code: error.code, message: error.message });
      // Otherwise tried again later; a page that only listens makes no call that would do so.
      else if (!replaced) this.#renewLater(Math.max(error.retryAfterMs, this.#options.backoffMaxMs));
      throw error;
    }
  }

  /**
   * @param {any} answer
   * @param {User} user
   * @returns {Session}
   */
  #sessionOf(answer, user) {
    if (typeof answer?.accessToken !== 'string' || user === undefined) {
      throw new SwitchboardError('PROTOCOL_ERROR', 'The server gave no tokens.');
    }
    const lifeMs = Math.max(1, Number(answer.expiresIn) || 0) * 1000;
    const now = Date.now();
    return {
      user,
      accessToken: answer.accessToken,
      refreshToken: answer.refreshToken ?? '',
      expiresAtMs: now + lifeMs,
      renewAtMs: now + lifeMs - Math.min(this.#options.renewBeforeMs, lifeMs / 4),
    };
  }

  /** @param {Session | null} session */
  #keep(session) {
    const { storage } = this.#options;
    try {
      // Another tab may have logged in since, and that session is not ours to forget.
      const ours = this.#stored()?.refreshToken === this.#session?.refreshToken;
      if (session === null && ours) storage?.removeItem(STORAGE_KEYS.session);
      if (session !== null) storage?.setItem(STORAGE_KEYS.session, JSON.stringify(session));
    } catch {
      // A full or forbidden store costs the login at the next reload, nothing now.
    }
    this.#use(session);
  }

  /** @param {Session | null} session */
  #use(session) {
    // A new store, not an emptied one: a call that is under way must not bring its answer into it.
    if (session?.user.id !== this.#session?.user.id) this.#answers = new Answers();
    this.#session = session;
    this.#cancelRenewal();
    if (session !== null) this.#renewLater(session.renewAtMs - Date.now());
    this.#listen(session !== null);
  }

  /**
   * A renewal by the clock keeps the session alive that nobody makes a call with.
   * @param {number} ms
   */
  #renewLater(ms) {
    this.#cancelRenewal();
    this.#cancelRenewal = inBackground(ms, () => {
      // A month's life is longer than one timer can wait.
      const due = (this.#session?.renewAtMs ?? 0) - Date.now();
      if (due > 0) this.#renewLater(due);
      else this.renew().catch(() => {});
    });
  }

  /**
   * A duplicated tab has the same refresh token. Whoever renews first tells the others, because the old token counts as
   * stolen once its successor has been used.
   * @param {boolean} on
   */
  #listen(on) {
    if (!on) {
      this.#channel?.close();
      this.#channel = null;
    } else if (this.#channel === null && typeof BroadcastChannel === 'function' && this.#options.storage !== null) {
      this.#channel = new BroadcastChannel(CHANNEL);
      // In Node it would keep the program from ending.
      /** @type {any} */ (this.#channel).unref?.();
      this.#channel.onmessage = ({ data }) => {
        if (data?.from === this.#session?.refreshToken && isSession(data?.session)) this.#keep(data.session);
      };
    }
  }

  /** Another tab that shares the store may have renewed while this one slept. */
  #adoptStored() {
    const stored = this.#stored();
    const mine = this.#session;
    if (stored === null || mine === null || stored.user.id !== mine.user.id) return;
    if (stored.refreshToken !== mine.refreshToken && stored.expiresAtMs > mine.expiresAtMs) this.#use(stored);
  }

  /** @returns {Session | null} */
  #stored() {
    try {
      const value = parseJson(this.#options.storage?.getItem(STORAGE_KEYS.session) ?? '');
      return isSession(value) ? value : null;
    } catch {
      return null;
    }
  }
}

/**
 * @param {any} value
 * @returns {value is Session}
 */
function isSession(value) {
  return typeof value?.accessToken === 'string' && typeof value.refreshToken === 'string' &&
    typeof value.expiresAtMs === 'number' && typeof value.renewAtMs === 'number' && typeof value.user?.id === 'string';
}

function notLoggedIn() {
  return new SwitchboardError('NOT_LOGGED_IN', 'Log in first.');
}
