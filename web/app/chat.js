// The chat: puts the model, the sidebar, the conversation and the composer together, and follows the address, the
// connection and the window. Owns which room is open (the address's fragment says it, so that "back" works on a phone).

import { Composer } from './composer.js';
import { Conversation } from './conversation.js';
import { openAccount, openMembers } from './dialogs.js';
import { byPart, byTestId, confirmed, fromTemplate, setText } from './dom.js';
import { counted, paintAvatar } from './format.js';
import { Model } from './model.js';
import { attempt, hideError, showError } from './notice.js';
import { Sidebar } from './sidebar.js';
import { ReadMarks } from './storage.js';

/** @import { Switchboard } from '../sdk/switchboard.js' */
/** @import { ConnectionState, Room } from '../sdk/types.js' */

/** How often the lists of rooms are fetched: being added to a room is told to its members only. */
const LISTS_MS = 15_000;

/** @type {Record<ConnectionState, string>} */
const STATE_WORDS = { online: 'Online', connecting: 'Connecting', offline: 'Offline', stopped: 'Offline' };

/**
 * @param {HTMLElement} root
 * @param {Switchboard} client
 * @param {{logOut: () => Promise<void>}} handlers
 * @returns {Chat}
 */
export function showChat(root, client, handlers) {
  hideError();
  const view = fromTemplate('chat-view');
  root.replaceChildren(view);
  return new Chat(view, client, handlers);
}

export class Chat {
  #view;
  #client;
  #marks;
  #model;
  #sidebar;
  #conversation;
  #composer;
  /** Ends every listener of this chat. */
  #end = new AbortController();
  /** @type {ReturnType<typeof setInterval>} */
  #timer;
  /** @type {Set<string | null>} */
  #stale = new Set();
  #listed = false;
  /** Tells the current fetch of the lists from those that something has overtaken since. */
  #listNo = 0;
  #wasOffline = false;

  /**
   * @param {HTMLElement} view
   * @param {Switchboard} client
   * @param {{logOut: () => Promise<void>}} handlers
   */
  constructor(view, client, handlers) {
    this.#view = view;
    this.#client = client;
    this.#marks = new ReadMarks(client.user?.id ?? '');
    this.#model = new Model(client, this.#marks, (roomId) => this.#redraw(roomId));
    this.#sidebar = new Sidebar(view, client, this.#model, { enter: (room) => this.#enter(room) });
    this.#conversation = new Conversation(view, this.#model);
    this.#composer = new Composer(view, client, () => this.#conversation.toEnd());
    this.#showOwn();
    this.#listenToPage(handlers);
    client.on('state', ({ state }) => this.#showState(state));
    client.on('room_left', ({ roomId, reason }) => this.#roomLeft(roomId, reason));
    this.#showState(client.state);
    this.#timer = setInterval(() => document.visibilityState === 'visible' && this.#refresh(), LISTS_MS);
    this.#navigate();
  }

  /** The session is over: nothing of the user's stays, neither on the page nor in the browser. */
  close() {
    this.#end.abort();
    clearInterval(this.#timer);
    this.#marks.forget();
    for (const dialog of document.querySelectorAll('dialog')) dialog.remove();
  }

  #showOwn() {
    const { id, username } = this.#model.me;
    setText(byTestId(this.#view, 'own-name'), username);
    paintAvatar(byPart(this.#view, 'own-avatar'), username, id);
  }

  /**
   * @param {{logOut: () => Promise<void>}} handlers
   */
  #listenToPage(handlers) {
    const { signal } = this.#end;
    const on = (/** @type {string} */ id, /** @type {() => void} */ run) => byTestId(this.#view, id).addEventListener('click', run);
    on('account', () => openAccount(this.#client));
    on('members', () => this.#openMembers());
    on('retry-now', () => this.#client.retryNow());
    on('logout', () => this.#logOut(handlers));
    window.addEventListener('hashchange', () => this.#navigate(), { signal });
    window.addEventListener('focus', () => this.#refresh(), { signal });
    window.addEventListener('storage', ({ key }) => key === this.#marks.key && this.#model.marksChanged(), { signal });
    document.addEventListener('visibilitychange', () => {
      this.#conversation.shown();
      this.#refresh();
    }, { signal });
  }

  /** @param {{logOut: () => Promise<void>}} handlers */
  #logOut(handlers) {
    attempt(byTestId(this.#view, 'logout'), async () => {
      const waiting = this.#client.pending.length;
      const question = `${counted(waiting, 'message has', 'messages have')} not been sent yet and will be lost. Log out?`;
      if (waiting === 0 || (await confirmed(question, 'Log out'))) await handlers.logOut();
    });
  }

  /** The address names the room. */
  #navigate() {
    const roomId = decodeURIComponent(location.hash.slice(1));
    hideError();
    this.#model.open(roomId);
    this.#drawOpen();
    if (this.#model.rooms.has(roomId)) this.#arrive();
  }

  /** Somebody has chosen a room: the keyboard goes on where they would write. */
  #arrive() {
    if (matchMedia('(pointer: coarse)').matches) byTestId(this.#view, 'room-name').focus();
    else this.#composer.focus();
  }

  /** @param {Room} room */
  #enter(room) {
    this.#model.setRooms([...this.#model.rooms.values()].map((view) => view.room).concat(room));
    if (location.hash === `#${room.id}`) this.#navigate();
    else location.hash = `#${room.id}`;
  }

  /**
   * @param {string} roomId
   * @param {string} reason
   */
  #roomLeft(roomId, reason) {
    this.#listNo++;
    if (roomId !== this.#model.openId || this.#model.rooms.has(roomId)) return;
    history.replaceState(null, '', location.pathname);
    this.#navigate();
    /** @type {Record<string, string>} */
    const words = { removed: 'You were removed from the room.', closed: 'The room was closed.', refused: 'The room is not there any more.' };
    if (words[reason]) showError(words[reason]);
  }

  #openMembers() {
    const view = this.#model.rooms.get(this.#model.openId);
    if (view === undefined) return;
    openMembers(this.#client, view.room, this.#model.titleOf(view.room), {
      enter: (room) => this.#enter(room),
      left: (roomId) => {
        // No words: it is what was asked for.
        this.#client.leave(roomId);
        this.#model.rooms.delete(roomId);
        if (this.#model.openId === roomId) location.hash = '';
        this.#redraw(null);
        this.#refresh();
      },
    });
  }

  /** Fetches both lists. A failure is not worth a word: the connection's state tells, and the next time is near. */
  async #refresh() {
    const listNo = ++this.#listNo;
    try {
      const [rooms] = await Promise.all([this.#client.api.rooms(), this.#sidebar.refreshPublic()]);
      // A list from before a room was left would join it again.
      if (this.#end.signal.aborted || listNo !== this.#listNo) return;
      const first = !this.#listed;
      this.#listed = true;
      this.#model.setRooms(rooms);
      // A reload with a room in its address: it can be opened now that the list is there.
      if (first && location.hash.length > 1) this.#navigate();
    } catch {
      // See above.
    }
  }

  /** @param {ConnectionState} state */
  #showState(state) {
    const shown = state === 'stopped' ? 'offline' : state;
    for (const element of [byTestId(this.#view, 'connection'), byPart(this.#view, 'connection-copy')]) {
      element.dataset.state = shown;
      setText(element, STATE_WORDS[state]);
    }
    if (state === 'offline') this.#wasOffline = true;
    if (state === 'online') {
      this.#wasOffline = false;
      this.#refresh();
    }
    // Steady through the tries: the pill shows each, the banner says what it means.
    byTestId(this.#view, 'banner').hidden = !this.#wasOffline;
    setText(byPart(this.#view, 'banner-text'), 'You are offline. What you write is kept and sent when you are back.');
  }

  /** Draws once for all that changes in one turn. @param {string | null} roomId */
  #redraw(roomId) {
    if (this.#stale.size === 0) queueMicrotask(() => this.#draw());
    this.#stale.add(roomId);
  }

  #draw() {
    const stale = new Set(this.#stale);
    this.#stale.clear();
    if (this.#end.signal.aborted) return;
    this.#sidebar.draw();
    const unread = this.#sidebar.unreadRooms;
    const title = unread > 0 ? `(${unread}) Switchboard` : 'Switchboard';
    if (document.title !== title) document.title = title;
    if (stale.has(null) || stale.has(this.#model.openId)) this.#drawOpen();
  }

  #drawOpen() {
    const view = this.#model.rooms.get(this.#model.openId) ?? null;
    this.#view.dataset.view = view === null ? 'rooms' : 'room';
    byPart(this.#view, 'nowhere').hidden = view !== null;
    byPart(this.#view, 'conversation').hidden = view === null;
    if (view !== null) {
      const title = this.#model.titleOf(view.room);
      setText(byTestId(this.#view, 'room-name'), title);
      setText(byTestId(this.#view, 'room-detail'), detailOf(view.room));
      this.#composer.open(view.room.id, title);
      setText(byTestId(this.#view, 'typing'), typingWords([...view.typists.values()]));
    }
    this.#conversation.show(view);
  }
}

/** @param {Room} room */
function detailOf({ roomType, memberCount, description }) {
  if (roomType === 'direct') return 'Direct message';
  const kind = roomType === 'public' ? 'Public room' : 'Private room';
  return [`${kind} · ${counted(memberCount, 'member')}`, description].filter(Boolean).join(' · ');
}

/** @param {string[]} names */
function typingWords(names) {
  if (names.length === 0) return '';
  if (names.length === 1) return `${names[0]} is typing…`;
  if (names.length === 2) return `${names[0]} and ${names[1]} are typing…`;
  return `${names[0]} and ${names.length - 1} others are typing…`;
}
