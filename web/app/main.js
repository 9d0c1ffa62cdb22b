// The page's entry: one client of the SDK, and either the door (log in, register) or the chat before it. Owns nothing
// else; each view's file does.

import { Switchboard } from '../sdk/switchboard.js';
import { showChat } from './chat.js';
import { showDoor } from './door.js';
import { find } from './dom.js';
import { showError } from './notice.js';
import { loginStorage } from './storage.js';

const root = find(document, '#app');

/**
 * A client whose login is kept in `storage`.
 * @param {Storage} storage
 */
function clientIn(storage) {
  return new Switchboard({ storage, deviceStorage: localStorage, outboxStorage: sessionStorage });
}

/** @param {string} [why] */
function enterDoor(why) {
  history.replaceState(null, '', location.pathname);
  showDoor(root, {
    open: async (keep, login) => {
      const client = clientIn(keep ? localStorage : sessionStorage);
      await login(client);
      enterChat(client);
    },
  });
  if (why !== undefined) showError(why);
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
if (client.user === null) enterDoor();
else enterChat(client);
