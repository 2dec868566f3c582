import type { DocumentKey } from '../documents/document-key.js';
import type { Fingerprint } from '../documents/hasher.js';
import type { BaseRecords } from '../ports/base-records.js';
import type { Clock } from '../ports/clock.js';
import type { Asks } from './asks.js';
import type { CustodyCounts, CustodyEvent } from './custody-events.js';
import type { CustodyEngine } from './custody.js';
import type { DueBook } from './due-book.js';

export interface HealingParts {
  readonly asks: Asks;
  readonly due: DueBook;
  readonly bases: BaseRecords;
  readonly clock: Clock;
  readonly engine: () => CustodyEngine;
  readonly emit: (event: CustodyEvent) => void;
}

/** A request that failed so soon after its credential changed may have been sent with the token before: CLIProxyAPI then suspends the new one. */
const LATE_ANSWER_MS = 60_000;
/** How long a file is shown with another value, for CLIProxyAPI to take it up. */
const WAKE_MS = 1000;

/** What is done about an access token that the provider refused before its time: the file is changed where it is the newest one's turn only, else everybody is asked for a refresh. */
export class Healing {
  readonly #parts: HealingParts;
  /** Since when each grant is here, by the monotonic clock; of those that were here at the start it is not known. */
  readonly #arrivals = new Map<DocumentKey, { readonly grant: Fingerprint | undefined; readonly at: number }>();
  readonly #woken = new Map<DocumentKey, Fingerprint>();
  readonly #waking = new Set<DocumentKey>();
  readonly #diedAgain = new Set<DocumentKey>();
  readonly #counts = { woken: 0, asked: 0, 'too soon': 0 };

  constructor(parts: HealingParts) {
    this.#parts = parts;
  }

  get counts(): CustodyCounts['healings'] {
    return { ...this.#counts };
  }

  get diedAgain(): readonly DocumentKey[] {
    return [...this.#diedAgain];
  }

  /** A credential was looked at: it has this grant. */
  saw(key: DocumentKey, grant: Fingerprint | undefined): void {
    const before = this.#arrivals.get(key);
    if (before?.grant === grant) return;
    this.#diedAgain.delete(key);
    this.#arrivals.set(key, { grant, at: before === undefined ? -Infinity : this.#parts.clock.monotonic() });
  }

  /** True while its file is to be shown with another value. */
  isWaking(key: DocumentKey): boolean {
    return this.#waking.has(key);
  }

  /** The proxy's request with this credential was refused, and it uses it no more for a while. */
  async died(key: DocumentKey): Promise<void> {
    const { due, bases, asks, clock, engine } = this.#parts;
    const credential = due.get(key);
    const base = bases.get(key);
    const grant = base?.local?.fingerprint;
    if (credential?.isRefreshed !== true || credential.isDisabled || grant === undefined) return;
    if (grant !== credential.grant) {
      engine().look(key);
      return;
    }
    const arrived = this.#arrivals.get(key)?.at ?? -Infinity;
    if (clock.monotonic() - arrived < LATE_ANSWER_MS && this.#woken.get(key) !== grant) {
      this.#woken.set(key, grant);
      this.#wake(key);
      this.#tell(key, 'woken');
    } else if (!due.isAsked(key)) this.#tell(key, await asks.ask(key, grant));
  }

  #wake(key: DocumentKey): void {
    const { clock, engine } = this.#parts;
    this.#waking.add(key);
    engine().look(key);
    clock.after(WAKE_MS, () => {
      this.#waking.delete(key);
      engine().look(key);
    });
  }

  #tell(key: DocumentKey, healing: keyof CustodyCounts['healings']): void {
    this.#counts[healing] += 1;
    if (healing === 'too soon') this.#diedAgain.add(key);
    this.#parts.emit({ type: 'access-token-died', key, healing });
  }
}
