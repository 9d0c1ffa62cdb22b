// Logging in, registering, and a forgotten password. Owns the forms; what a login leads to is main.js's matter, and so is
// which link of a mail led here.

import { byTestId, find, fromTemplate } from './dom.js';
import { attempt, hideError, showError, showNews } from './notice.js';
import { SwitchboardError } from '../sdk/switchboard.js';

/** @import { Switchboard } from '../sdk/switchboard.js' */

/**
 * @typedef {object} DoorHandlers
 * @property {(keep: boolean, login: (client: Switchboard) => Promise<unknown>) => Promise<void>} open
 * @property {Switchboard} client For what needs no login.
 */

/**
 * @param {HTMLElement} root
 * @param {DoorHandlers} handlers
 */
export function showDoor(root, handlers) {
  showForm(root, handlers, 'login');
}

/**
 * The form for a new password, for who followed the link of a mail.
 * @param {HTMLElement} root
 * @param {DoorHandlers} handlers
 * @param {string} token
 */
export function showReset(root, handlers, token) {
  showPlain(root, handlers, 'reset', 'password', async (password) => {
    await handlers.client.resetPassword(token, password);
    return 'The new password counts. Log in with it.';
  });
}

/**
 * A form with one field, which leads back to logging in with some news.
 * @param {HTMLElement} root
 * @param {DoorHandlers} handlers
 * @param {'forgot' | 'reset'} kind
 * @param {'email' | 'password'} field
 * @param {(given: string) => Promise<string>} send
 */
function showPlain(root, handlers, kind, field, send) {
  hideError();
  const view = fromTemplate(`${kind}-view`);
  root.replaceChildren(view);
  const form = /** @type {HTMLFormElement} */ (byTestId(view, `${kind}-form`));
  byTestId(view, 'back-to-login').addEventListener('click', () => showForm(root, handlers, 'login'));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const given = String(new FormData(form).get(field) ?? '');
    attempt(find(form, 'button.primary'), async () => {
      try {
        const news = await send(field === 'email' ? given.trim() : given);
        showForm(root, handlers, 'login');
        showNews(news);
      } catch (failure) {
        markInvalid(form, [field]);
        throw failure;
      }
    });
  });
  byTestId(view, field).focus();
}

/**
 * @param {HTMLElement} root
 * @param {DoorHandlers} handlers
 */
function showForgot(root, handlers) {
  showPlain(root, handlers, 'forgot', 'email', async (email) => {
    await handlers.client.forgotPassword(email);
    return 'If an account has this address, a mail with a link is on its way.';
  });
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
  if (kind === 'login') byTestId(view, 'forgot-password').addEventListener('click', () => showForgot(root, handlers));
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
        if (kind === 'login') return client.login(username, password);
        const invitation = text('invitation').trim();
        return client.register({ username, email, password, ...(invitation === '' ? {} : { invitation }) });
      });
    } catch (failure) {
      if (failure instanceof SwitchboardError && failure.mfa !== null) {
        showFactor(form, handlers, failure.mfa.ticket, given.has('keep'));
        return;
      }
      if (failure instanceof SwitchboardError && failure.code.startsWith('INVITATION_')) askForInvitation(form);
      if (failure instanceof SwitchboardError) markInvalid(form, failure.errors.map(({ field }) => field));
      throw failure;
    }
  });
}

/**
 * Shows the field for an invitation, which most installations do not ask for.
 * @param {HTMLFormElement} form
 */
function askForInvitation(form) {
  find(form, '[data-part="invitation"]').hidden = false;
  byTestId(form, 'invitation').focus();
}

/**
 * The second step of a login: a code. A ticket that is over leads back to the first one.
 * @param {HTMLFormElement} before
 * @param {DoorHandlers} handlers
 * @param {string} ticket
 * @param {boolean} keep
 */
function showFactor(before, handlers, ticket, keep) {
  hideError();
  const root = /** @type {HTMLElement} */ (before.closest('main')?.parentElement);
  const view = fromTemplate('factor-view');
  root.replaceChildren(view);
  const form = /** @type {HTMLFormElement} */ (byTestId(view, 'factor-form'));
  byTestId(view, 'back-to-login').addEventListener('click', () => showForm(root, handlers, 'login'));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const given = new FormData(form);
    const code = String(given.get('code') ?? '').trim();
    const more = { rememberDevice: given.has('remember') };
    await attempt(find(form, 'button.primary'), async () => {
      try {
        await handlers.open(keep, (client) => client.completeLogin(ticket, code, more));
      } catch (failure) {
        const error = SwitchboardError.from(failure);
        if (error.code === 'TOKEN_EXPIRED' || error.code === 'TOKEN_INVALID') {
          showForm(root, handlers, 'login');
          showError('That took too long. Please log in again.');
          return;
        }
        markInvalid(form, ['code']);
        throw failure;
      }
    });
  });
  byTestId(view, 'code').focus();
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
