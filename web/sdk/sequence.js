// Judges the `seq` of a room's entries: the next one, one seen before, or proof that something is missing. Owns the
// last `seq` of one room and nothing else.

/** @typedef {'next' | 'repeat' | 'hole'} Verdict */

export class Sequence {
  /** The last entry seen; null while it is not known exactly. @type {number | null} */
  #last = null;
  /** Entries up to here are surely known. */
  #floor = 0;
  /** What the server called the room's last entry. */
  #head = 0;

  /** The next entry comes right after a cursor whose `seq` is not known: it is believed. @type {boolean} */
  #believeNext = true;

  /**
   * The view was replaced by a page of messages. Entries of other kinds may stand between the page's last message and
   * the cursor, so the exact `seq` is known only with the next entry: right after the last message, or right after
   * what the server called the last entry. Anything else asks for a proof, which costs a join and loses nothing.
   * @param {number} lastMessageSeq 0 for none.
   * @param {number} lastSeq The room's, as answered.
   */
  reset(lastMessageSeq, lastSeq) {
    this.#last = null;
    this.#floor = lastMessageSeq;
    this.#head = Math.max(lastMessageSeq, lastSeq);
    this.#believeNext = false;
  }

  /** The next entry is the answer to "what came after this cursor?", so it does come right after it. */
  afterCursor() {
    if (this.#last === null) this.#believeNext = true;
  }

  /**
   * @param {number} seq
   * @returns {Verdict}
   */
  judge(seq) {
    if (this.#last !== null) return seq <= this.#last ? 'repeat' : seq === this.#last + 1 ? 'next' : 'hole';
    if (seq <= this.#floor) return 'repeat';
    if (this.#believeNext || seq === this.#floor + 1 || seq === this.#head + 1) return 'next';
    return 'hole';
  }

  /** Takes an entry as seen. @param {number} seq */
  advance(seq) {
    this.#last = seq;
    this.#believeNext = false;
  }

  /** What should come next, as far as known. @returns {number} */
  get expected() {
    return (this.#last ?? this.#head) + 1;
  }
}
