// The one place where errors are shown. Owns a single element, which moves to where the user is looking: the form, the
// open dialog, or the corner of the page. It never opens by itself what the user has closed.

import { make } from './dom.js';
import { SwitchboardError } from '../sdk/switchboard.js';

/** @type {HTMLElement | null} */
let shown = null;

/** What the codes mean to a person, where the server's message is for programs. @type {Record<string, string>} */
const WORDS = {
  NETWORK_ERROR: 'The server cannot be reached. Are you online?',
  TIMEOUT: 'The server took too long to answer. Please try again.',
  UNAVAILABLE: 'The server is busy right now. Please try again in a moment.',
  DEADLINE_EXCEEDED: 'The server took too long to answer. Please try again.',
  INTERNAL: 'Something went wrong on the server. Please try again.',
  RATE_LIMITED: 'That was a little too fast. Please try again in a moment.',
  INVALID_CREDENTIALS: 'No account with this name and password.',
  EMAIL_TOKEN_INVALID: 'This link is not good any more: it was used, or it is too old. Ask for another one.',
  EMAIL_UNVERIFIED: 'Follow the link in the mail that was sent to you first, then log in.',
  EMAIL_DISABLED: 'No mail is sent here. Whoever runs this installation can help.',
  ACCOUNT_EXISTS: 'This username or email is taken already.',
  ROOM_NOT_FOUND: 'This room does not exist, or it is private.',
  USER_NOT_FOUND: 'There is nobody with this id.',
  NOT_A_MEMBER: 'You are not a member of this room.',
  FORBIDDEN: 'You may not do this here.',
  OUTBOX_FULL: 'Too many messages wait to be sent already.',
};

/**
 * @param {unknown} failure An error, or a sentence.
 */
export function showError(failure) {
  hideError();
  const slot = document.querySelector('dialog[open] .notice-slot') ?? document.querySelector('.notice-slot');
  const dismiss = make('button', { type: 'button', class: 'link', 'aria-label': 'Dismiss', click: hideError }, '✕');
  shown = make('div', { class: 'notice', role: 'alert', 'data-testid': 'error' }, make('span', {}, describe(failure)), dismiss);
  if (failure instanceof SwitchboardError) shown.dataset.code = failure.code;
  slot?.append(shown);
}

/**
 * Tells something good in the same place.
 * @param {string} sentence
 */
export function showNews(sentence) {
  showError(sentence);
  shown?.setAttribute('role', 'status');
  shown?.setAttribute('data-testid', 'news');
  shown?.classList.add('good');
}

export function hideError() {
  shown?.remove();
  shown = null;
}

/**
 * @param {unknown} failure
 * @returns {string}
 */
export function describe(failure) {
  if (typeof failure === 'string') return failure;
  if (!(failure instanceof SwitchboardError)) return 'Something went wrong on this page. Please reload it.';
  if (failure.errors.length > 0) {
    // The server marks code by backticks, as in Markdown.
    return failure.errors.map(({ field, message }) => `${capital(field)} ${message.replaceAll('`', '')}.`).join('\n');
  }
  return WORDS[failure.code] ?? failure.message;
}

/**
 * Runs what a press of a button asks for: the button rests meanwhile, a failure is shown.
 * @param {HTMLElement | null} button
 * @param {() => Promise<unknown>} action
 */
export async function attempt(button, action) {
  if (button?.getAttribute('aria-busy') === 'true') return;
  hideError();
  button?.setAttribute('aria-busy', 'true');
  try {
    await action();
  } catch (failure) {
    if (!(failure instanceof SwitchboardError)) console.error(failure);
    showError(failure);
  } finally {
    button?.removeAttribute('aria-busy');
  }
}

/** @param {string} word */
function capital(word) {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
