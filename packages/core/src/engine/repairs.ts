import type { DocumentKey } from '../documents/document-key.js';
import type { Clock } from '../ports/clock.js';

/** How long a repaired file must have stayed right. */
export const SETTLING_MS = 2000;
/** The pause before a second repair; it doubles with each further one. A busy proxy must not be answered write for write. */
const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 1000;

/** Paces the repairing of files that CLIProxyAPI puts back, until they stay right. */
export class Repairs {
  readonly #clock: Clock;
  readonly #unsettled = new Map<DocumentKey, { readonly count: number; readonly at: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How long to wait before repairing this document again, in ms. */
  pauseBefore(key: DocumentKey): number {
    const last = this.#unsettled.get(key);
    if (last === undefined) return 0;
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (last.count - 1));
    return Math.max(0, last.at + pause - this.#clock.monotonic());
  }

  /** The file was written again. */
  repaired(key: DocumentKey): void {
    this.#unsettled.set(key, { count: (this.#unsettled.get(key)?.count ?? 0) + 1, at: this.#clock.monotonic() });
  }

  /** The file is right now. Says how long it must still be watched, in ms. */
  foundRight(key: DocumentKey): number {
    const last = this.#unsettled.get(key);
    if (last === undefined) return 0;
    const remaining = last.at + SETTLING_MS - this.#clock.monotonic();
    if (remaining <= 0) this.#unsettled.delete(key);
    return Math.max(0, remaining);
  }
}
