// The two dialogs: the account with its sessions, and a room's members. Each owns what it shows while it is open and
// asks the server anew each time, because neither is kept live.

import { byPart, byTestId, confirmed, make, openDialog } from './dom.js';
import { counted, momentOf, paintAvatar } from './format.js';
import { attempt, showError } from './notice.js';

/** @import { Switchboard } from '../sdk/switchboard.js' */
/** @import { Member, Room, SessionInfo } from '../sdk/types.js' */

/** Members on one page of the list. */
const PAGE = 50;

/** @param {Switchboard} client */
export function openAccount(client) {
  const dialog = openDialog('account-dialog');
  const { user } = client;
  byPart(dialog, 'username').textContent = user?.username ?? '';
  byPart(dialog, 'email').textContent = user?.email ?? '';
  byTestId(dialog, 'own-id').textContent = user?.id ?? '';
  dialog.querySelector('[data-action="copy"]')?.addEventListener('click', (event) => {
    const button = /** @type {HTMLElement} */ (event.currentTarget);
    attempt(button, async () => {
      // A page that came over plain HTTP from another machine has no clipboard.
      if (navigator.clipboard === undefined) return void getSelection()?.selectAllChildren(byTestId(dialog, 'own-id'));
      await navigator.clipboard.writeText(user?.id ?? '');
      button.textContent = 'Copied';
    });
  });
  const others = byTestId(dialog, 'end-other-sessions');
  const reload = () => showSessions(dialog, client);
  others.addEventListener('click', () => attempt(others, async () => {
    await client.api.endOtherSessions();
    await reload();
  }));
  attempt(null, reload);
}

/**
 * @param {HTMLElement} dialog
 * @param {Switchboard} client
 */
async function showSessions(dialog, client) {
  const list = byTestId(dialog, 'session-list');
  const sessions = await client.api.sessions();
  const endAndShow = async (/** @type {string} */ id) => {
    await client.api.endSession(id);
    await showSessions(dialog, client);
  };
  list.replaceChildren(...sessions.map((session) => sessionItem(session, endAndShow)));
  list.setAttribute('aria-busy', 'false');
  byTestId(dialog, 'end-other-sessions').hidden = sessions.length < 2;
}

/**
 * @param {SessionInfo} session
 * @param {(id: string) => Promise<void>} end
 */
function sessionItem(session, end) {
  const device = deviceName(session.device);
  const detail = [session.ipAddress, `last used ${momentOf(session.lastUsedAt)}`].filter(Boolean).join(' · ');
  const button = make('button', { type: 'button', class: 'button small', 'data-testid': 'end-session', 'aria-label': `End the session on ${device}` }, 'End');
  button.addEventListener('click', () => attempt(button, () => end(session.id)));
  return make('li', { 'data-testid': 'session', 'data-session-id': session.id, 'data-current': String(session.current) },
    make('div', { class: 'grow' },
      make('div', { class: 'strong', title: session.device }, device),
      make('div', { class: 'hint' }, detail)),
    session.current ? make('span', { class: 'tag' }, 'This one') : button);
}

/**
 * What a user agent says to a person: its browser and its system.
 * @param {string} agent
 */
function deviceName(agent) {
  const browser = /(Edg|OPR|Firefox|Chrome|Safari)\//.exec(agent)?.[1];
  const system = /(Windows|Android|iPhone|iPad|Mac OS X|Linux)/.exec(agent)?.[1];
  /** @type {Record<string, string>} */
  const names = { Edg: 'Edge', OPR: 'Opera', 'Mac OS X': 'macOS' };
  if (browser === undefined || system === undefined) return agent.slice(0, 80) || 'Unknown device';
  return `${names[browser] ?? browser} on ${names[system] ?? system}`;
}

/**
 * @typedef {object} MembersHandlers
 * @property {(room: Room) => void} enter Opens a room that may be new to the user.
 * @property {(roomId: string) => void} left
 */

/**
 * @param {Switchboard} client
 * @param {Room} room
 * @param {string} title
 * @param {MembersHandlers} handlers
 */
export function openMembers(client, room, title, handlers) {
  const dialog = openDialog('members-dialog');
  const own = client.user?.id ?? '';
  const list = byTestId(dialog, 'member-list');
  const more = byTestId(dialog, 'more-members');
  let pageToken = '';
  let owner = false;

  async function showPage() {
    const page = await client.api.members(room.id, { pageToken, pageSize: PAGE });
    pageToken = page.nextPageToken;
    owner ||= page.members.some(({ userId, role }) => userId === own && role === 'owner');
    list.append(...page.members.map((member) => item(member)));
    list.setAttribute('aria-busy', 'false');
    more.hidden = !pageToken;
    byTestId(dialog, 'add-member-form').hidden = room.roomType === 'direct' || (room.roomType === 'public' && !owner);
    byTestId(dialog, 'leave-room').hidden = room.roomType === 'direct';
    byTestId(dialog, 'close-room').hidden = !owner || room.roomType === 'direct';
  }

  async function again() {
    pageToken = '';
    list.replaceChildren();
    await showPage();
  }

  /** @param {Member} member */
  function item(member) {
    const avatar = make('span', { class: 'avatar', 'aria-hidden': 'true' });
    const name = member.username || 'Unknown';
    paintAvatar(avatar, name, member.userId);
    const buttons = member.userId === own ? [make('span', { class: 'tag' }, 'You')] : memberButtons(member, name);
    return make('li', { 'data-testid': 'member', 'data-user-id': member.userId }, avatar,
      make('div', { class: 'grow' },
        make('div', { class: 'strong' }, name),
        make('div', { class: 'hint' }, member.role === 'owner' ? 'Owner' : 'Member')),
      ...buttons);
  }

  /**
   * @param {Member} member
   * @param {string} name
   */
  function memberButtons({ userId }, name) {
    const write = make('button', { type: 'button', class: 'button small', 'data-testid': 'message-member', 'aria-label': `Message ${name}` }, 'Message');
    write.addEventListener('click', () => attempt(write, async () => {
      const direct = await client.api.openDirectRoom(userId);
      dialog.close();
      handlers.enter(direct);
    }));
    if (!owner || room.roomType === 'direct') return room.roomType === 'direct' ? [] : [write];
    const remove = make('button', { type: 'button', class: 'button small', 'data-testid': 'remove-member', 'aria-label': `Remove ${name}` }, 'Remove');
    remove.addEventListener('click', () => attempt(remove, async () => {
      await client.api.removeMember(room.id, userId);
      await again();
    }));
    return [write, remove];
  }

  byTestId(dialog, 'members-title').textContent = `${title} · ${counted(room.memberCount, 'member')}`;
  more.addEventListener('click', () => attempt(more, showPage));
  byTestId(dialog, 'add-member-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const input = /** @type {HTMLInputElement} */ (byTestId(dialog, 'add-member-id'));
    const userId = input.value.trim();
    if (userId === '') return showError('Please give the person’s user id.');
    attempt(byTestId(dialog, 'add-member'), async () => {
      await client.api.addMember(room.id, userId);
      input.value = '';
      await again();
    });
  });
  onConfirmed(dialog, 'leave-room', `Leave “${title}”?`, 'Leave', async () => {
    await client.api.leaveRoom(room.id);
    handlers.left(room.id);
  });
  onConfirmed(dialog, 'close-room', `Close “${title}” for everybody? Its messages cannot be read any more.`, 'Close the room', async () => {
    await client.api.deleteRoom(room.id);
    handlers.left(room.id);
  });
  attempt(null, showPage);
}

/**
 * @param {HTMLDialogElement} dialog
 * @param {string} testId
 * @param {string} question
 * @param {string} yes
 * @param {() => Promise<void>} action
 */
function onConfirmed(dialog, testId, question, yes, action) {
  const button = byTestId(dialog, testId);
  button.addEventListener('click', () => attempt(button, async () => {
    if (!(await confirmed(question, yes))) return;
    await action();
    dialog.close();
  }));
}
