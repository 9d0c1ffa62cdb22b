// How times, names and text are put on the page. Pure functions, but for the elements that links become.

import { make } from './dom.js';

const TIME = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const DAY_AND_YEAR = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });

/** How many tones app.css has for avatars. */
const TONES = 8;

/** @param {Date} date */
export const timeOf = (date) => TIME.format(date);

/** @param {string} iso */
export const momentOf = (iso) => (iso ? MOMENT.format(new Date(iso)) : 'unknown');

/** @param {Date} date */
export function dayOf(date) {
  const today = new Date();
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  if (date.toDateString() === today.toDateString()) return 'Today';
  if (date.toDateString() === yesterday.toDateString()) return 'Yesterday';
  return (date.getFullYear() === today.getFullYear() ? DAY : DAY_AND_YEAR).format(date);
}

/**
 * @param {number} count
 * @param {string} one
 * @param {string} many
 */
export const counted = (count, one, many = `${one}s`) => `${count.toLocaleString()} ${count === 1 ? one : many}`;

/**
 * The letters in place of a picture, with a tone that is always the same for the same id.
 * @param {HTMLElement} element
 * @param {string} name
 * @param {string} id
 */
export function paintAvatar(element, name, id) {
  let hash = 0;
  for (const char of id) hash = (hash * 31 + char.charCodeAt(0)) >>> 0;
  element.dataset.tone = String(hash % TONES);
  element.textContent = [...name.trim()].slice(0, 1).join('').toUpperCase() || '?';
}

/** An address in running text: up to a space, without the punctuation that ends a sentence. */
const ADDRESS = /https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]}]/g;

/**
 * Text, with addresses as links. Only http and https are links, so that no other scheme can be pressed.
 * @param {string} text
 * @returns {(string | HTMLElement)[]}
 */
export function withLinks(text) {
  /** @type {(string | HTMLElement)[]} */
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(ADDRESS)) {
    const [address] = match;
    if (!URL.canParse(address)) continue;
    parts.push(text.slice(at, match.index));
    parts.push(make('a', { href: address, target: '_blank', rel: 'noopener noreferrer nofollow' }, address));
    at = match.index + address.length;
  }
  parts.push(text.slice(at));
  return parts;
}
