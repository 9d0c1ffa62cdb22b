// Where the page keeps a login and what has been read. A login belongs to one tab (sessionStorage) unless the user asks
// to stay logged in: two tabs can then be two people, a closed tab leaves no token behind, and a shared computer does
// not hand an account to whoever comes next. "Stay logged in" puts it into localStorage, for all tabs and restarts.
// Unsent messages always belong to their tab, so that two tabs of one person do not write over each other.

import { STORAGE_KEYS } from '../sdk/switchboard.js';

/** Rooms whose reading is remembered; the longest unread are forgotten first. */
const MARKS_MAX = 500;

/** @returns {Storage} Where the login of this tab is. */
export function loginStorage() {
  const inTab = sessionStorage.getItem(STORAGE_KEYS.session) !== null;
  return !inTab && localStorage.getItem(STORAGE_KEYS.session) !== null ? localStorage : sessionStorage;
}

/** How far each room has been read, by user. */
export class ReadMarks {
  #key;
  /** @type {Record<string, number>} */
  #marks;

  /** @param {string} userId */
  constructor(userId) {
    this.#key = `switchboard.read.${userId}`;
    this.#marks = this.#load() ?? {};
    /** Whether this device has known this user before: if not, nothing that is there counts as unread. */
    this.fresh = this.#load() === null;
  }

  /** @returns {string} */
  get key() {
    return this.#key;
  }

  /** Another tab has read something. */
  reload() {
    this.#marks = this.#load() ?? this.#marks;
  }

  /** @param {string} roomId @returns {number | undefined} */
  of(roomId) {
    return this.#marks[roomId];
  }

  /**
   * @param {string} roomId
   * @param {number} seq
   */
  set(roomId, seq) {
    if ((this.#marks[roomId] ?? -1) >= seq) return;
    const { [roomId]: _, ...others } = { ...this.#marks, ...this.#load() };
    this.#marks = Object.fromEntries([...Object.entries(others), [roomId, seq]].slice(-MARKS_MAX));
    try {
      localStorage.setItem(this.#key, JSON.stringify(this.#marks));
    } catch {
      // A full store costs the marks at the next reload, nothing now.
    }
  }

  /** Whose session ends leaves nothing behind, so that whoever comes next does not see which rooms there were. */
  forget() {
    this.#marks = {};
    localStorage.removeItem(this.#key);
  }

  /** @returns {Record<string, number> | null} */
  #load() {
    try {
      return JSON.parse(localStorage.getItem(this.#key) ?? 'null');
    } catch {
      return null;
    }
  }
}
