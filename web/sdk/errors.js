// The one error type of the SDK. Owns the codes that arise on this side of the wire and says which failures pass by
// themselves; the server's own codes are in its error catalogue. Callers branch on `code`, never on the text.

/**
 * Codes that the SDK itself gives, beside the server's.
 * @typedef {'NETWORK_ERROR' | 'TIMEOUT' | 'DISCONNECTED' | 'NOT_LOGGED_IN' | 'SESSION_ENDED' | 'OUTBOX_FULL' |
 *   'SEND_EXPIRED' | 'LIMIT_REACHED' | 'PROTOCOL_ERROR'} LocalCode
 */

/** One bad field of a request. @typedef {{field: string, message: string}} FieldError */

/**
 * How a login goes on that answered MFA_REQUIRED.
 * @typedef {object} SecondFactor
 * @property {string} ticket For `completeLogin`.
 * @property {number} expiresIn Seconds until the ticket expires.
 * @property {string[]} methods What may be given: `totp`, `recovery_code`.
 */

/**
 * What went beside the code.
 * @typedef {object} ErrorDetails
 * @property {number} [status] The HTTP status, when there was one.
 * @property {FieldError[]} [errors] One for each bad field.
 * @property {string} [requestId] What to quote to whoever runs the server.
 * @property {number} [retryAfterMs] How long the server asks to wait.
 * @property {SecondFactor | null} [mfa] With MFA_REQUIRED at a login: how to go on.
 * @property {unknown} [cause] The failure below.
 */

/** Failures that may be gone at the next try. A 401 is one, because the next try goes out with a fresh token. */
const TRANSIENT = new Set([
  'NETWORK_ERROR', 'TIMEOUT', 'DISCONNECTED', 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'INTERNAL', 'RATE_LIMITED',
  'UNAUTHORIZED', 'TOKEN_EXPIRED', 'TOKEN_INVALID', 'TOKEN_REVOKED', 'TOKEN_SPENT',
]);

/** A refusal by the server, or a failure to reach it. */
export class SwitchboardError extends Error {
  /**
   * @param {string} code A code of the server's catalogue, or a {@link LocalCode}.
   * @param {string} message A sentence that may be shown.
   * @param {ErrorDetails} [details]
   */
  constructor(code, message, details = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'SwitchboardError';
    /** What to branch on. @type {string} */
    this.code = code;
    /** The HTTP status, or 0. @type {number} */
    this.status = details.status ?? 0;
    /** One for each bad field. @type {FieldError[]} */
    this.errors = details.errors ?? [];
    /** The request's id, or the empty string. @type {string} */
    this.requestId = details.requestId ?? '';
    /** How long the server asks to wait, or 0. @type {number} */
    this.retryAfterMs = details.retryAfterMs ?? 0;
    /** With MFA_REQUIRED at a login: how to go on. @type {SecondFactor | null} */
    this.mfa = details.mfa ?? null;
  }

  /** Whether the same call may succeed later. @returns {boolean} */
  get transient() {
    return TRANSIENT.has(this.code);
  }

  /**
   * Reads the server's error object, however little of it is there (a proxy between may answer with a page of its own).
   * @param {unknown} body
   * @param {ErrorDetails} [details]
   * @returns {SwitchboardError}
   */
  static fromBody(body, details = {}) {
    const given = /** @type {Record<string, unknown>} */ (body !== null && typeof body === 'object' ? body : {});
    const status = details.status ?? (typeof given.statusCode === 'number' ? given.statusCode : 0);
    const code = typeof given.code === 'string' ? given.code : codeOfStatus(status);
    const message = typeof given.message === 'string' ? given.message : `The server answered with status ${status}.`;
    const errors = Array.isArray(given.errors) ? given.errors : [];
    const requestId = typeof given.requestId === 'string' ? given.requestId : '';
    const mfa = /** @type {SecondFactor | null} */ (given.mfa ?? null);
    return new SwitchboardError(code, message, { ...details, status, errors, requestId, mfa });
  }

  /**
   * @param {unknown} failure
   * @returns {SwitchboardError} The failure itself when it is one already.
   */
  static from(failure) {
    if (failure instanceof SwitchboardError) return failure;
    const message = failure instanceof Error ? failure.message : String(failure);
    return new SwitchboardError('PROTOCOL_ERROR', message, { cause: failure });
  }
}

/**
 * @param {number} status
 * @returns {string}
 */
function codeOfStatus(status) {
  if (status === 401) return 'UNAUTHORIZED';
  if (status === 403) return 'FORBIDDEN';
  if (status === 404) return 'NOT_FOUND';
  if (status === 413) return 'PAYLOAD_TOO_LARGE';
  if (status === 429) return 'RATE_LIMITED';
  if (status === 502 || status === 503) return 'UNAVAILABLE';
  if (status === 504) return 'DEADLINE_EXCEEDED';
  return status >= 500 ? 'INTERNAL' : 'PROTOCOL_ERROR';
}
