// The column of rooms: the user's own with what is unread, public ones to join, a new one, a direct one. Owns the two
// lists' elements; the rooms themselves are the model's.

import { arrange, byPart, byTestId, find, make, setText } from './dom.js';
import { counted, paintAvatar } from './format.js';
import { attempt, showError } from './notice.js';

/** @import { Switchboard } from '../sdk/switchboard.js' */
/** @import { Room } from '../sdk/types.js' */
/** @import { Model, RoomView } from './model.js' */

/** Rooms on one page of the public list. */
const PAGE = 20;
/** Public rooms shown at most; a search finds the rest. */
const PUBLIC_MAX = 200;
/** A pause in typing after which the search runs. */
const SEARCH_MS = 250;
/** Unread messages are counted to here. */
const COUNT_MAX = 99;

/**
 * @typedef {object} SidebarHandlers
 * @property {(room: Room) => void} enter Opens a room that may be new to the user.
 */

export class Sidebar {
  #client;
  #model;
  #handlers;
  #own;
  #noRooms;
  #public;
  #noPublic;
  #more;
  #search;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #searchTimer;
  /** @type {Room[]} */
  #found = [];
  #nextPageToken = '';
  /** Tells the answer to the current search from earlier ones. */
  #searchNo = 0;
  /** @type {Map<string, HTMLLIElement>} */
  #items = new Map();

  /**
   * @param {HTMLElement} root
   * @param {Switchboard} client
   * @param {Model} model
   * @param {SidebarHandlers} handlers
   */
  constructor(root, client, model, handlers) {
    this.#client = client;
    this.#model = model;
    this.#handlers = handlers;
    this.#own = byTestId(root, 'room-list');
    this.#noRooms = byPart(root, 'no-rooms');
    this.#public = byTestId(root, 'public-room-list');
    this.#noPublic = byPart(root, 'no-public');
    this.#more = byTestId(root, 'more-public');
    this.#search = /** @type {HTMLInputElement} */ (byTestId(root, 'public-search'));
    this.#search.addEventListener('input', () => {
      clearTimeout(this.#searchTimer);
      this.#searchTimer = setTimeout(() => attempt(null, () => this.refreshPublic()), SEARCH_MS);
    });
    this.#more.addEventListener('click', () => attempt(this.#more, () => this.#morePublic()));
    this.#onSubmit(byTestId(root, 'new-room-form'), (form) => this.#create(form));
    this.#onSubmit(byTestId(root, 'direct-form'), (form) => this.#openDirect(form));
  }

  /** Draws the user's rooms. */
  draw() {
    const views = this.#model.sorted();
    const wanted = views.map((view) => this.#item(view));
    for (const id of this.#items.keys()) if (!this.#model.rooms.has(id)) this.#items.delete(id);
    arrange(this.#own, wanted);
    this.#noRooms.hidden = views.length > 0;
    this.#drawPublic();
  }

  /** @returns {number} Rooms with something unread. */
  get unreadRooms() {
    return [...this.#model.rooms.values()].filter((view) => this.#model.unread(view).count > 0).length;
  }

  /** Fetches the first page of public rooms anew, keeping as many as are shown. */
  async refreshPublic() {
    const searchNo = ++this.#searchNo;
    const pageSize = Math.min(100, Math.max(PAGE, this.#found.length));
    const page = await this.#client.api.publicRooms({ search: this.#search.value.trim(), pageSize });
    if (searchNo !== this.#searchNo) return;
    this.#found = page.rooms;
    this.#nextPageToken = page.nextPageToken;
    this.#drawPublic();
  }

  async #morePublic() {
    const searchNo = ++this.#searchNo;
    const search = this.#search.value.trim();
    const page = await this.#client.api.publicRooms({ search, pageToken: this.#nextPageToken, pageSize: PAGE });
    if (searchNo !== this.#searchNo) return;
    this.#found = [...this.#found, ...page.rooms];
    this.#nextPageToken = page.nextPageToken;
    this.#drawPublic();
  }

  #drawPublic() {
    const others = this.#found.filter(({ id }) => !this.#model.rooms.has(id));
    /** @type {Map<string | undefined, Element>} */
    const known = new Map([...this.#public.children].map((item) => [/** @type {HTMLElement} */ (item).dataset.key, item]));
    arrange(this.#public, others.map((room) => known.get(publicKey(room)) ?? this.#publicItem(room)));
    this.#noPublic.hidden = others.length > 0;
    setText(this.#noPublic, this.#search.value.trim() === '' ? 'No other public rooms.' : 'No other public room by that name.');
    this.#more.hidden = this.#nextPageToken === '' || this.#found.length >= PUBLIC_MAX;
  }

  /** @param {RoomView} view */
  #item(view) {
    const { room } = view;
    const item = this.#items.get(room.id) ?? this.#newItem(room);
    this.#items.set(room.id, item);
    const link = find(item, 'a');
    const title = this.#model.titleOf(room);
    setText(find(item, '.room-name'), title);
    paintRoomMark(find(item, '.room-mark'), room, title, this.#model.otherIn(room));
    const { count, more } = this.#model.unread(view);
    const badge = find(item, '.badge');
    badge.hidden = count === 0;
    setText(badge, count === 0 ? '' : count > COUNT_MAX ? `${COUNT_MAX}+` : `${count}${more ? '+' : ''}`);
    item.dataset.unread = String(count);
    link.setAttribute('aria-label', count === 0 ? title : `${title}, ${counted(count, 'unread message')}`);
    if (room.id === this.#model.openId) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
    const last = view.waiting.at(-1)?.content ?? view.messages.at(-1)?.content ?? '';
    const typing = view.typists.size > 0;
    setText(find(item, '.room-last'), typing ? 'typing…' : last.slice(0, 120));
    return item;
  }

  /** @param {Room} room */
  #newItem(room) {
    return make('li', { 'data-testid': 'room', 'data-room-id': room.id },
      make('a', { href: `#${room.id}`, class: 'room-link' },
        make('span', { class: 'room-mark', 'aria-hidden': 'true' }),
        make('span', { class: 'room-lines' },
          make('span', { class: 'room-name' }),
          make('span', { class: 'room-last' })),
        make('span', { class: 'badge', 'data-testid': 'unread', hidden: true })));
  }

  /** @param {Room} room */
  #publicItem(room) {
    const mark = make('span', { class: 'room-mark', 'aria-hidden': 'true' });
    paintRoomMark(mark, room, room.name, '');
    const button = make('button', { type: 'button', class: 'room-link', 'data-testid': 'join-room' }, mark,
      make('span', { class: 'room-lines' },
        make('span', { class: 'room-name' }, room.name),
        make('span', { class: 'room-last' }, counted(room.memberCount, 'member'))),
      make('span', { class: 'join' }, 'Join'));
    button.addEventListener('click', () => attempt(button, () => this.#join(room)));
    return make('li', { 'data-testid': 'public-room', 'data-room-id': room.id, 'data-key': publicKey(room) }, button);
  }

  /** @param {Room} room */
  async #join(room) {
    if (this.#client.state !== 'online') return showError('You are offline. Rooms can be joined once you are back.');
    // By REST, so that membership does not wait for one of the live places.
    const { room: joined } = await this.#client.api.request('POST', `/rooms/${encodeURIComponent(room.id)}/join`);
    this.#handlers.enter(joined ?? room);
  }

  /** @param {HTMLFormElement} form */
  async #create(form) {
    const given = new FormData(form);
    const name = String(given.get('name')).trim();
    if (name === '') {
      find(form, 'input').focus();
      return showError('Please give the room a name.');
    }
    const roomType = given.get('type') === 'private' ? 'private' : 'public';
    const room = await this.#client.api.createRoom(name, { roomType });
    form.reset();
    this.#handlers.enter(room);
  }

  /** @param {HTMLFormElement} form */
  async #openDirect(form) {
    const userId = String(new FormData(form).get('user')).trim();
    if (userId === '') {
      find(form, 'input').focus();
      return showError('Please give the person’s user id.');
    }
    const room = await this.#client.api.openDirectRoom(userId);
    form.reset();
    this.#handlers.enter(room);
  }

  /**
   * @param {HTMLElement} form
   * @param {(form: HTMLFormElement) => Promise<void>} action
   */
  #onSubmit(form, action) {
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      attempt(find(form, 'button'), () => action(/** @type {HTMLFormElement} */ (form)));
    });
  }
}

/** @param {Room} room */
function publicKey({ id, name, memberCount }) {
  return `${id} ${memberCount} ${name}`;
}

/**
 * @param {HTMLElement} element
 * @param {Room} room
 * @param {string} title
 * @param {string} otherId
 */
function paintRoomMark(element, room, title, otherId) {
  element.dataset.type = room.roomType;
  if (room.roomType === 'direct') paintAvatar(element, title, otherId);
  else setText(element, room.roomType === 'public' ? '#' : '');
}
