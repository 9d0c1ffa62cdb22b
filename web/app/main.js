// The page's entry: one client of the SDK, and either the door (log in, register) or the chat before it. Owns nothing
// else; each view's file does.

import { Switchboard } from '../sdk/switchboard.js';
import { showChat } from './chat.js';
import { showDoor, showReset } from './door.js';
import { find } from './dom.js';
import { describe, showError, showNews } from './notice.js';
import { loginStorage } from './storage.js';

const root = find(document, '#app');

/**
 * A client whose login is kept in `storage`.
 * @param {Storage} storage
 */
function clientIn(storage) {
  return new Switchboard({ storage, deviceStorage: localStorage, outboxStorage: sessionStorage });
}

/** What the door leads to, and what it calls. @type {import('./door.js').DoorHandlers} */
const handlers = {
  open: async (keep, login) => {
    const client = clientIn(keep ? localStorage : sessionStorage);
    await login(client);
    enterChat(client);
  },
  get client() {
    return clientIn(sessionStorage);
  },
};

/** @param {string} [why] */
function enterDoor(why) {
  history.replaceState(null, '', location.pathname);
  showDoor(root, handlers);
  if (why !== undefined) showError(why);
}

/**
 * What the link of a mail is for, if one led here. Its token does not stay in the address.
 * @returns {{action: string, token: string} | null}
 */
function mailedLink() {
  const [, action, token] = /^#(reset-password|verify-email)=(sbl_[\w-]+)$/.exec(location.hash) ?? [];
  if (action === undefined) return null;
  history.replaceState(null, '', location.pathname);
  return { action, token };
}

/** Shows by the token of a mail whose an address is, and says what came of it. @param {string} token */
async function verify(token) {
  try {
    await handlers.client.verifyEmail(token);
    showNews('Your email address is verified.');
  } catch (failure) {
    showError(describe(failure));
  }
}

/** @param {Switchboard} client */
function enterChat(client) {
  const chat = showChat(root, client, { logOut: () => logOut() });

  /** @param {string} [why] */
  function leave(why) {
    chat.close();
    enterDoor(why);
  }

  async function logOut() {
    leaving();
    try {
      await client.logout();
      leave();
    } catch {
      leave('Logged out here, but the server could not be told. End the session from another device to be sure.');
    }
  }

  const leaving = client.on('session_ended', () => leave('This session has ended. Please log in again.'));
  client.connect();
}

const client = clientIn(loginStorage());
const link = mailedLink();
if (link?.action === 'reset-password') showReset(root, handlers, link.token);
else if (client.user === null) enterDoor();
else enterChat(client);
if (link?.action === 'verify-email') verify(link.token);
