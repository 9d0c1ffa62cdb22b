// Answers that are kept to be asked for again: a page that polls a list is sent it only when it has changed. Owns a few
// texts with their tags; knows nothing of what is in them.

/** Lists that a page polls are few, and each costs its text. */
const ANSWERS_MAX = 16;
/** A longer answer is a page of history, which nobody asks for twice. */
const TEXT_LENGTH_MAX = 65_536;

export class Answers {
  /** Path → tag and text, the one that was used last at the end. @type {Map<string, {etag: string, text: string}>} */
  #kept = new Map();

  /** @param {string} path @returns {{etag: string, text: string} | undefined} */
  find(path) {
    return this.#kept.get(path);
  }

  /** @param {string} path @param {string | null} etag None for an answer that has no tag. @param {string} text */
  keep(path, etag, text) {
    this.#kept.delete(path);
    if (etag === null || text.length > TEXT_LENGTH_MAX) return;
    this.#kept.set(path, { etag, text });
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > ANSWERS_MAX) this.#kept.delete(oldest);
  }
}
