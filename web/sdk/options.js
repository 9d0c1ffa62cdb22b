// Every option of the SDK with its default, its unit and its reason. Nothing in the SDK grows without one of these
// limits; a name that is not here is an error, so that a typing mistake does not silently mean "default".

/**
 * The part of a browser's Storage that the SDK uses.
 * @typedef {{getItem(key: string): string | null, setItem(key: string, value: string): void, removeItem(key: string): void}} KeyValueStore
 */

/**
 * @typedef {object} Options
 * @property {string} url The server's origin, without a path. Default: the page's own.
 * @property {string} socketPath Where Socket.IO is served. Default `/socket/`.
 * @property {typeof globalThis.fetch} fetch Default: the browser's.
 * @property {new (url: string) => WebSocket} WebSocket Default: the browser's.
 * @property {KeyValueStore | null} storage Where the session is kept over a reload. Default null: in memory alone.
 * @property {KeyValueStore | null} deviceStorage Where the token is kept by which the server knows this device at its
 *   next login, also after logging out. Default: `storage`.
 * @property {KeyValueStore | null} outboxStorage Where unsent messages are kept over a reload. It should belong to one
 *   tab, so that two tabs do not write over each other. Default null: in memory alone.
 * @property {number} requestTimeoutMs How long a REST call may take. Default 15,000: past the server's own limit.
 * @property {number} renewBeforeMs How long before its end the access token is renewed; at most a quarter of its life.
 *   Default 60,000: a machine's slow clock and a slow call both fit.
 * @property {number} handshakeTimeoutMs From opening the WebSocket to being connected. Default 15,000.
 * @property {number} ackTimeoutMs How long an event waits for its answer. Default 15,000.
 * @property {number} acksMax Events that wait for an answer at once. Default 500: more than outbox and rooms need.
 * @property {number} frameBytesMax The largest frame that is sent. Default 65,536: the server closes a socket on more.
 * @property {number} backoffBaseMs The first pause before connecting again, doubled at each failure. Default 1,000.
 * @property {number} backoffMaxMs The longest pause. Default 30,000: a recovered server is found within that.
 * @property {number} stableMs How long a connection must hold for the pauses to start over. Default 10,000, so that a
 *   server that accepts and closes at once is not hammered.
 * @property {number} roomsMax Rooms followed at once. Default 100: what the server resumes with one connect.
 * @property {number} joinsMax Joins that wait for an answer at once. Default 8: a reload with many rooms is no burst.
 * @property {number} joinBufferMax Live entries kept per room while a join is under way. Default 1,000.
 * @property {number} holesMax Holes in a row in one room after which its view is fetched anew. Default 3.
 * @property {number} outboxMax Messages that wait to be sent, in all rooms. Default 200.
 * @property {number} sendAttemptsMax Tries of one message. Default 10: one that breaks the connection each time must
 *   not do so for ever.
 * @property {number} sendAgeMsMax How long a message may wait before it fails. Default 1,800,000: half an hour later
 *   its author should decide again.
 * @property {number} typingThrottleMs At most one `typing_start` per room in this time. Default 3,000: under the 5 s
 *   after which the server ends one.
 * @property {number} typingIdleMs `typing_stop` goes out this long after the last key. Default 4,000.
 * @property {number} typingExpiryMs Another's typing ends here without word after this. Default 6,500.
 * @property {number} typistsMax People remembered as typing, in all rooms. Default 200.
 */

const STORAGE_KEY_SESSION = 'switchboard.session';
const STORAGE_KEY_OUTBOX = 'switchboard.outbox';

const STORAGE_KEY_DEVICE = 'switchboard.device';

/** The keys that the SDK uses in the stores it is given. */
export const STORAGE_KEYS = Object.freeze({
  session: STORAGE_KEY_SESSION, outbox: STORAGE_KEY_OUTBOX, device: STORAGE_KEY_DEVICE,
});

const LIMITS = Object.freeze({
  requestTimeoutMs: 15_000,
  renewBeforeMs: 60_000,
  handshakeTimeoutMs: 15_000,
  ackTimeoutMs: 15_000,
  acksMax: 500,
  frameBytesMax: 65_536,
  backoffBaseMs: 1_000,
  backoffMaxMs: 30_000,
  stableMs: 10_000,
  roomsMax: 100,
  joinsMax: 8,
  joinBufferMax: 1_000,
  holesMax: 3,
  outboxMax: 200,
  sendAttemptsMax: 10,
  sendAgeMsMax: 1_800_000,
  typingThrottleMs: 3_000,
  typingIdleMs: 4_000,
  typingExpiryMs: 6_500,
  typistsMax: 200,
});

/**
 * Fills in the defaults.
 * @param {Partial<Options>} given
 * @returns {Readonly<Options>}
 * @throws {TypeError} For an unknown name, or a limit that is no positive number.
 */
export function resolveOptions(given) {
  /** @type {Options} */
  const options = {
    url: globalThis.location?.origin ?? '',
    socketPath: '/socket/',
    // A bare `fetch` may only be called on its own global object.
    fetch: globalThis.fetch?.bind(globalThis),
    WebSocket: globalThis.WebSocket,
    storage: null,
    deviceStorage: given.storage ?? null,
    outboxStorage: null,
    ...LIMITS,
  };
  for (const [name, value] of Object.entries(given)) {
    if (!(name in options)) throw new TypeError(`Switchboard has no option "${name}".`);
    if (value === undefined) continue;
    if (name in LIMITS && !(typeof value === 'number' && value > 0 && Number.isFinite(value))) {
      throw new TypeError(`The option "${name}" must be a positive number.`);
    }
    Object.assign(options, { [name]: value });
  }
  if (typeof options.fetch !== 'function') throw new TypeError('No fetch here: give one in the options.');
  if (typeof options.WebSocket !== 'function') throw new TypeError('No WebSocket here: give one in the options.');
  if (!/^https?:\/\//.test(options.url)) throw new TypeError('The option "url" must begin with http:// or https://.');
  options.url = options.url.replace(/\/+$/, '');
  return Object.freeze(options);
}

/**
 * A pause that doubles with each failure, with jitter so that clients of a restarted server do not come back at once.
 * @param {Options} options
 * @param {number} failures How many came before, from 0.
 * @returns {number} Milliseconds.
 */
export function backoffMs(options, failures) {
  const full = Math.min(options.backoffMaxMs, options.backoffBaseMs * 2 ** Math.min(failures, 20));
  return full * (0.5 + Math.random() / 2);
}

/** The longest time that a timer takes without overflowing into "at once". */
const TIMER_MS_MAX = 2 ** 31 - 1;

/**
 * Runs something later.
 * @param {number} ms
 * @param {() => void} run
 * @returns {() => void} Ends it.
 */
export function after(ms, run) {
  const timer = setTimeout(run, Math.min(Math.max(ms, 0), TIMER_MS_MAX));
  return () => clearTimeout(timer);
}

/**
 * Runs something later, if the program still runs then: in Node this alone does not keep it from ending.
 * @param {number} ms
 * @param {() => void} run
 * @returns {() => void} Ends it.
 */
export function inBackground(ms, run) {
  /** @type {any} */
  const timer = setTimeout(run, Math.min(Math.max(ms, 0), TIMER_MS_MAX));
  timer.unref?.();
  return () => clearTimeout(timer);
}
