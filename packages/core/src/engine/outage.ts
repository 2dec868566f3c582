import type { DocumentKey } from '../documents/document-key.js';
import { isOutage, messageOf, TokenmirrorError } from '../errors.js';
import type { RandomSource } from '../ports/clock.js';
import { backoffMs } from './backoff.js';
import type { StatusBoard } from './status-board.js';
import type { Timers } from './timers.js';

export interface OutageParts {
  readonly board: StatusBoard;
  readonly timers: Timers<string>;
  readonly random: RandomSource;
  /** Asks the store again, with everything that was missed; its failure is reported by `enter`. */
  readonly tryToHeal: () => void;
}

/** A store that is out of reach: what was missed meanwhile, and when to ask again, ever more rarely until it works again. */
export class Outage {
  readonly #parts: OutageParts;
  /** Documents to look at once the store is back. */
  readonly #missed = new Set<DocumentKey>();
  #attempts = 0;

  constructor(parts: OutageParts) {
    this.#parts = parts;
  }

  enter(error: unknown): void {
    const { board, timers, random, tryToHeal } = this.#parts;
    board.note({ type: 'outage', reason: messageOf(error), remedy: error instanceof TokenmirrorError ? error.remedy : '' });
    if (timers.has('outage')) return;
    const wait = backoffMs(this.#attempts, random);
    this.#attempts += 1;
    timers.start('outage', wait, tryToHeal);
  }

  missed(key: DocumentKey): void {
    this.#missed.add(key);
  }

  /** The store answers. Hands over what was missed. */
  healed(): readonly DocumentKey[] {
    this.#parts.board.healed();
    const missed = [...this.#missed];
    this.#missed.clear();
    return missed;
  }

  /** Everything that was missed went through, writes included: the next outage is a new one. */
  isOver(): void {
    this.#attempts = 0;
  }
}

/** True for what waiting may mend: the store is out of reach, full, or refuses us for now. */
export function isStoreTrouble(error: unknown): boolean {
  return isOutage(error) || (error instanceof TokenmirrorError && error.code === 'STORE_DENIED');
}
