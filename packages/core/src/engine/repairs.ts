import type { DocumentKey } from '../documents/document-key.js';
import type { Clock } from '../ports/clock.js';

/** How long a repaired file must have stayed right. */
export const SETTLING_MS = 2000;
/** The pause before a second repair; it doubles with each further one. A busy proxy must not be answered write for write. */
const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 1000;

/** The first of the looks at a written file; each further one is twice as far away. File events may be lost in the bustle. */
export const FIRST_LOOK_MS = 15;

interface Unsettled {
  readonly repairs: number;
  readonly at: number;
}

/** Watches files that were written until they have stayed right, and paces the repairing of those that CLIProxyAPI puts back. */
export class Repairs {
  readonly #clock: Clock;
  readonly #unsettled = new Map<DocumentKey, Unsettled>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** How long to wait before repairing this document again, in ms. */
  pauseBefore(key: DocumentKey): number {
    const last = this.#unsettled.get(key);
    if (last === undefined || last.repairs === 0) return 0;
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (last.repairs - 1));
    return Math.max(0, last.at + pause - this.#clock.monotonic());
  }

  /** The file was written in the place of another. Says when to look at it, in ms. */
  written(key: DocumentKey, isRepair: boolean): number {
    const repairs = this.#unsettled.get(key)?.repairs ?? 0;
    this.#unsettled.set(key, { repairs: isRepair ? repairs + 1 : repairs, at: this.#clock.monotonic() });
    return FIRST_LOOK_MS;
  }

  /** The file is right now. Says when to look again, in ms, while it has not stayed so for long enough; else 0. */
  foundRight(key: DocumentKey): number {
    const last = this.#unsettled.get(key);
    if (last === undefined) return 0;
    const elapsed = this.#clock.monotonic() - last.at;
    if (elapsed < SETTLING_MS) return Math.max(FIRST_LOOK_MS, Math.min(elapsed, SETTLING_MS - elapsed));
    this.#unsettled.delete(key);
    return 0;
  }
}
