// Logging in and registering. Owns the two forms; what a login leads to is main.js's matter.

import { byTestId, find, fromTemplate } from './dom.js';
import { attempt, hideError, showError } from './notice.js';
import { SwitchboardError } from '../sdk/switchboard.js';

/** @import { Switchboard } from '../sdk/switchboard.js' */

/**
 * @typedef {object} DoorHandlers
 * @property {(keep: boolean, login: (client: Switchboard) => Promise<unknown>) => Promise<void>} open
 */

/**
 * @param {HTMLElement} root
 * @param {DoorHandlers} handlers
 */
export function showDoor(root, handlers) {
  showForm(root, handlers, 'login');
}

/**
 * @param {HTMLElement} root
 * @param {DoorHandlers} handlers
 * @param {'login' | 'register'} kind
 */
function showForm(root, handlers, kind) {
  hideError();
  document.title = 'Switchboard';
  const view = fromTemplate(`${kind}-view`);
  root.replaceChildren(view);
  const form = /** @type {HTMLFormElement} */ (byTestId(view, `${kind}-form`));
  const other = kind === 'login' ? 'register' : 'login';
  byTestId(view, `switch-to-${other}`).addEventListener('click', () => showForm(root, handlers, other));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    submit(form, handlers, kind);
  });
  byTestId(view, 'username').focus();
}

/**
 * @param {HTMLFormElement} form
 * @param {DoorHandlers} handlers
 * @param {'login' | 'register'} kind
 */
async function submit(form, handlers, kind) {
  const given = new FormData(form);
  const text = (/** @type {string} */ name) => String(given.get(name) ?? '');
  const username = text('username').trim();
  const email = text('email').trim();
  const password = text('password');
  markInvalid(form, []);
  const empty = ['username', 'email', 'password'].find((name) => form.elements.namedItem(name) && text(name).trim() === '');
  if (empty !== undefined) {
    showError('Please fill in every field.');
    markInvalid(form, [empty]);
    return;
  }
  await attempt(find(form, 'button.primary'), async () => {
    try {
      await handlers.open(given.has('keep'), (client) => {
        return kind === 'login' ? client.login(username, password) : client.register({ username, email, password });
      });
    } catch (failure) {
      if (failure instanceof SwitchboardError) markInvalid(form, failure.errors.map(({ field }) => field));
      throw failure;
    }
  });
}

/**
 * Marks fields for the eye and for a screen reader, and goes to the first.
 * @param {HTMLFormElement} form
 * @param {string[]} names
 */
function markInvalid(form, names) {
  /** @type {HTMLInputElement[]} */
  const inputs = [...form.querySelectorAll('input')];
  for (const input of inputs) input.toggleAttribute('aria-invalid', false);
  const wrong = inputs.filter((input) => names.includes(input.name));
  for (const input of wrong) input.setAttribute('aria-invalid', 'true');
  wrong[0]?.focus();
}
