// A minimal typed event emitter. Owns the list of listeners; a listener that throws is reported and does not keep the
// others, or the SDK, from going on.

/** @template {object} E */
export class Emitter {
  /** @type {Map<keyof E, Set<(detail: any) => void>>} */
  #listeners = new Map();

  /**
   * Calls `listener` at each `event`, in the order of registration.
   * @template {keyof E} K
   * @param {K} event
   * @param {(detail: E[K]) => void} listener
   * @returns {() => void} Ends it.
   */
  on(event, listener) {
    const known = this.#listeners.get(event) ?? new Set();
    known.add(listener);
    this.#listeners.set(event, known);
    return () => void known.delete(listener);
  }

  /**
   * @template {keyof E} K
   * @param {K} event
   * @param {E[K]} detail
   */
  emit(event, detail) {
    for (const listener of [...(this.#listeners.get(event) ?? [])]) {
      try {
        listener(detail);
      } catch (failure) {
        if (typeof globalThis.reportError === 'function') globalThis.reportError(failure);
        else console.error(failure);
      }
    }
  }
}
