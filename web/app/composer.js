// Writing a message. Owns the text field: drafts by room, its height, the limit, keys, and telling that somebody types.
// Sending never waits: what is written goes to the SDK's outbox and shows as pending.

import { byPart, byTestId } from './dom.js';
import { attempt } from './notice.js';

/** @import { Switchboard } from '../sdk/switchboard.js' */

/** The server's limits for one message. */
const CHARS_MAX = 8_000;
const BYTES_MAX = 32 * 1024;
/** From here on the counter shows. */
const CHARS_COUNTED = 7_000;
/** Drafts remembered, the oldest forgotten first. */
const DRAFTS_MAX = 100;
/** The field grows to this, in pixels: about eight lines. */
const HEIGHT_PX_MAX = 200;

export class Composer {
  #client;
  #form;
  #field;
  #send;
  #counter;
  #roomId = '';
  #onSent;
  /** @type {Map<string, string>} */
  #drafts = new Map();

  /**
   * @param {HTMLElement} root
   * @param {Switchboard} client
   * @param {() => void} onSent
   */
  constructor(root, client, onSent) {
    this.#client = client;
    this.#onSent = onSent;
    this.#form = byPart(root, 'composer-form');
    this.#field = /** @type {HTMLTextAreaElement} */ (byTestId(root, 'composer'));
    this.#send = /** @type {HTMLButtonElement} */ (byTestId(root, 'send'));
    this.#counter = byTestId(root, 'counter');
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#field.addEventListener('input', () => this.#typed());
    this.#field.addEventListener('keydown', (event) => this.#key(event));
    this.#field.addEventListener('blur', () => this.#roomId && this.#client.stopTyping(this.#roomId));
    this.#measure();
  }

  /**
   * @param {string} roomId
   * @param {string} title
   */
  open(roomId, title) {
    if (this.#roomId !== roomId) {
      if (this.#roomId !== '') this.#client.stopTyping(this.#roomId);
      this.#keepDraft();
      this.#field.value = this.#drafts.get(roomId) ?? '';
      this.#roomId = roomId;
      this.#measure();
    }
    this.#field.placeholder = `Message ${title}`;
  }

  focus() {
    this.#field.focus({ preventScroll: true });
  }

  #keepDraft() {
    this.#drafts.delete(this.#roomId);
    if (this.#field.value.trim() !== '') this.#drafts.set(this.#roomId, this.#field.value);
    const [oldest] = this.#drafts.keys();
    if (this.#drafts.size > DRAFTS_MAX) this.#drafts.delete(oldest);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    // While a word is being composed from several keys, Enter takes the word; a phone's Enter is a new line.
    const sends = event.key === 'Enter' && !event.shiftKey && !event.isComposing && !matchMedia('(pointer: coarse)').matches;
    if (!sends) return;
    event.preventDefault();
    this.#submit();
  }

  #typed() {
    this.#measure();
    if (this.#field.value.trim() === '') this.#client.stopTyping(this.#roomId);
    else this.#client.typing(this.#roomId);
  }

  #submit() {
    const content = this.#field.value;
    if (content.trim() === '' || this.#send.disabled) return;
    attempt(null, async () => {
      this.#client.send(this.#roomId, content);
      this.#client.stopTyping(this.#roomId);
      this.#field.value = '';
      this.#drafts.delete(this.#roomId);
      this.#measure();
      this.focus();
      this.#onSent();
    });
  }

  /** Height, counter and button follow the text. */
  #measure() {
    const { value } = this.#field;
    this.#field.style.height = 'auto';
    this.#field.style.height = `${Math.min(this.#field.scrollHeight + 2, HEIGHT_PX_MAX)}px`;
    // The server counts characters, of which an emoji is fewer than its UTF-16 units.
    const chars = value.length < CHARS_COUNTED ? value.length : [...value].length;
    const tooLong = chars > CHARS_MAX || (value.length * 3 > BYTES_MAX && new TextEncoder().encode(value).length > BYTES_MAX);
    this.#counter.hidden = chars < CHARS_COUNTED && !tooLong;
    this.#counter.textContent = this.#counter.hidden ? '' : `${chars.toLocaleString()} of ${CHARS_MAX.toLocaleString()} characters`;
    this.#counter.classList.toggle('over', tooLong);
    this.#field.setAttribute('aria-invalid', String(tooLong));
    this.#send.disabled = tooLong;
  }
}
