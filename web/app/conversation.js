// The list of messages of the open room: drawing, scrolling, loading what is older. Owns the elements in the log and
// the question whether the user is at its end; what the messages are is the model's matter.

import { arrange, byPart, byTestId, make, setText } from './dom.js';
import { dayOf, paintAvatar, timeOf, withLinks } from './format.js';
import { attempt } from './notice.js';

/** @import { Message, Sending } from '../sdk/types.js' */
/** @import { Model, RoomView } from './model.js' */

/** Closer to the end than this counts as at the end, in pixels: a little more than a line. */
const END_PX = 48;
/** Closer to the start than this loads what is older, in pixels: about one screen. */
const START_PX = 400;
/** Messages of one person within this time stand under one name. */
const TOGETHER_MS = 5 * 60 * 1000;

/** More messages than this at once are history, not news. */
const BULK = 5;
/** How long a screen reader is asked to pass over such a change. */
const QUIET_MS = 500;

/** @typedef {{key: string, element: HTMLLIElement}} Drawn */

export class Conversation {
  #model;
  #log;
  #list;
  #loadOlder;
  #logStart;
  #toNewest;
  /** The room that is drawn; null for none. @type {RoomView | null} */
  #view = null;
  /** Elements by message, with what they were drawn from. @type {Map<string, Drawn>} */
  #drawn = new Map();
  #atEnd = true;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #quietTimer;
  /** Messages after this were unread when the user came; they stand under a line. */
  #newAfter = Infinity;
  /** Whether it is certain by now that the line has something under it. */
  #lineSettled = false;

  /**
   * @param {HTMLElement} root
   * @param {Model} model
   */
  constructor(root, model) {
    this.#model = model;
    this.#log = byTestId(root, 'message-list');
    this.#list = byPart(root, 'messages');
    this.#loadOlder = /** @type {HTMLButtonElement} */ (byTestId(root, 'load-older'));
    this.#logStart = byPart(root, 'log-start');
    this.#toNewest = byTestId(root, 'to-newest');
    this.#log.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#loadOlder.addEventListener('click', () => attempt(this.#loadOlder, () => this.#older()));
    this.#toNewest.addEventListener('click', () => this.toEnd());
    // Also when the keyboard of a phone comes up, or the composer grows.
    new ResizeObserver(() => this.#atEnd && this.toEnd()).observe(this.#log);
  }

  /** @param {RoomView | null} view */
  show(view) {
    const another = view !== this.#view;
    this.#view = view;
    if (another) {
      this.#drawn.clear();
      this.#list.replaceChildren();
      this.#atEnd = true;
      this.#newAfter = view === null ? Infinity : this.#model.readUpTo(view.room.id);
      this.#lineSettled = false;
    }
    if (view === null) return;
    this.#settleLine();
    if (another || view.messages.length - this.#list.childElementCount > BULK) this.#beQuiet();
    const { scrollHeight, scrollTop } = this.#log;
    const first = this.#list.firstElementChild;
    this.#draw(view);
    if (this.#atEnd) this.toEnd();
    // What came in above must not move what is being read.
    else if (first !== this.#list.firstElementChild) this.#log.scrollTop = scrollTop + this.#log.scrollHeight - scrollHeight;
    this.#tellReading();
    this.#fill();
  }

  /** The window was shown or hidden. What comes while it is hidden stands under a line. */
  shown() {
    if (document.visibilityState === 'hidden') {
      this.#newAfter = this.#view?.messages.at(-1)?.seq ?? Infinity;
      this.#lineSettled = false;
    } else {
      this.#settleLine();
    }
    this.#tellReading();
  }

  /** Where nothing was unread there is no line, also not above what comes later. */
  #settleLine() {
    if (this.#lineSettled || !this.#view?.loaded || document.visibilityState === 'hidden') return;
    this.#lineSettled = true;
    if (this.#model.unread(this.#view).count === 0) this.#newAfter = Infinity;
  }

  /** A whole page at once is not news to be read aloud. */
  #beQuiet() {
    this.#log.setAttribute('aria-busy', 'true');
    clearTimeout(this.#quietTimer);
    this.#quietTimer = setTimeout(() => this.#log.setAttribute('aria-busy', 'false'), QUIET_MS);
  }

  toEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
    this.#atEnd = true;
    this.#toNewest.hidden = true;
    this.#tellReading();
  }

  #tellReading() {
    const visible = this.#view !== null && this.#log.offsetParent !== null && document.visibilityState === 'visible';
    this.#model.setReading(visible && this.#atEnd);
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < END_PX;
    this.#toNewest.hidden = this.#atEnd;
    this.#tellReading();
    this.#fill();
  }

  /** Loads older messages when the start is near; so a tall window fills itself too. */
  #fill() {
    if (this.#log.offsetParent === null || this.#log.scrollTop > START_PX) return;
    // At a failure the button is there to try again.
    if (this.#view?.hasOlder && !this.#view.loadingOlder) this.#older().catch(() => {});
  }

  async #older() {
    if (this.#view !== null) await this.#model.loadOlder(this.#view.room.id);
  }

  /** @param {RoomView} view */
  #draw(view) {
    const { me } = this.#model;
    this.#loadOlder.hidden = !view.hasOlder || this.#model.isFull(view);
    this.#logStart.hidden = view.hasOlder || !view.loaded;
    setText(this.#logStart, view.messages.length + view.waiting.length === 0
      ? 'Nothing has been said here yet.' : 'This is where the room begins.');
    /** @type {HTMLElement[]} */
    const wanted = [];
    const used = new Set();
    let day = '';
    /** @type {{userId: string, at: number} | null} */
    let last = null;
    let lineDrawn = false;
    for (const each of [...view.messages, ...view.waiting]) {
      const item = itemOf(each, me);
      const at = new Date(item.at);
      if (at.toDateString() !== day) {
        day = at.toDateString();
        wanted.push(this.#line(`day ${day}`, 'day', dayOf(at), used));
        last = null;
      }
      if (!lineDrawn && item.seq > this.#newAfter && item.userId !== me.id && this.#newAfter > 0) {
        lineDrawn = true;
        wanted.push(this.#line('new', 'new', 'New', used));
        last = null;
      }
      const follows = last !== null && last.userId === item.userId && item.at - last.at < TOGETHER_MS;
      last = { userId: item.userId, at: item.at };
      wanted.push(this.#message(item, follows, used));
    }
    for (const id of this.#drawn.keys()) if (!used.has(id)) this.#drawn.delete(id);
    arrange(this.#list, wanted);
  }

  /**
   * @param {string} id
   * @param {string} kind
   * @param {string} text
   * @param {Set<string>} used
   */
  #line(id, kind, text, used) {
    used.add(id);
    const known = this.#drawn.get(id);
    if (known?.key === text) return known.element;
    const element = make('li', { class: `line line-${kind}` }, make('span', {}, text));
    this.#drawn.set(id, { key: text, element });
    return element;
  }

  /**
   * A pending message and the sent one that it becomes are one element.
   * @param {Item} item
   * @param {boolean} follows
   * @param {Set<string>} used
   */
  #message(item, follows, used) {
    const id = `${item.userId} ${item.clientMessageId}`;
    const key = `${item.seq} ${item.state} ${follows} ${item.content.length}`;
    used.add(id);
    const known = this.#drawn.get(id);
    if (known?.key === key) return known.element;
    const element = known?.element ?? make('li', { class: 'message', 'data-testid': 'message' });
    element.dataset.state = item.state;
    element.dataset.seq = item.seq === Infinity ? '' : String(item.seq);
    element.dataset.clientMessageId = item.clientMessageId;
    element.classList.toggle('follows', follows);
    element.replaceChildren(...this.#contents(item, follows));
    this.#drawn.set(id, { key, element });
    return element;
  }

  /**
   * @param {Item} item
   * @param {boolean} follows
   */
  #contents(item, follows) {
    const avatar = make('span', { class: 'avatar', 'aria-hidden': 'true' });
    paintAvatar(avatar, item.username, item.userId);
    const at = new Date(item.at);
    const head = make('div', { class: follows ? 'message-head visually-hidden' : 'message-head' },
      make('span', { class: 'author' }, item.username), ' ',
      make('time', { datetime: at.toISOString() }, timeOf(at)));
    const text = make('p', { class: 'text', dir: 'auto' }, ...withLinks(item.content));
    return [avatar, make('div', { class: 'message-body' }, head, text, ...this.#stateOf(item))];
  }

  /** @param {Item} item */
  #stateOf({ state, sending }) {
    if (state === 'sent' || sending === null) return [];
    if (state === 'pending') return [make('p', { class: 'state' }, 'Sending…')];
    const why = sending.error?.errors[0]?.message ?? sending.error?.message ?? '';
    return [make('p', { class: 'state failed' },
      make('strong', {}, 'Not sent.'), ` ${why} `,
      make('button', { type: 'button', class: 'link', 'data-testid': 'retry', click: (event) => this.#retry(event, sending) }, 'Try again'),
      ' ',
      make('button', { type: 'button', class: 'link', 'data-testid': 'discard', click: () => this.#model.discard(sending) }, 'Discard'))];
  }

  /**
   * @param {Event} event
   * @param {Sending} sending
   */
  #retry(event, sending) {
    attempt(/** @type {HTMLElement} */ (event.currentTarget), async () => this.#model.retry(sending));
  }
}

/**
 * A message as it is drawn, sent or not.
 * @typedef {object} Item
 * @property {number} seq Infinity for one that is not sent.
 * @property {string} userId
 * @property {string} username
 * @property {string} content
 * @property {string} clientMessageId
 * @property {'sent' | 'pending' | 'failed'} state
 * @property {number} at
 * @property {Sending | null} sending
 */

/**
 * @param {Message | Sending} each
 * @param {import('../sdk/types.js').User} me
 * @returns {Item}
 */
function itemOf(each, me) {
  if ('seq' in each) {
    const { seq, userId, username, content, clientMessageId, createdAt } = each;
    return { seq, userId, username, content, clientMessageId, state: 'sent', at: Date.parse(createdAt), sending: null };
  }
  const { content, clientMessageId, createdAtMs, state, message } = each;
  const mine = { userId: me.id, username: me.username, content, clientMessageId, state, at: createdAtMs };
  return { ...mine, seq: message?.seq ?? Infinity, sending: each };
}
