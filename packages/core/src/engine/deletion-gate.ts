import type { DocumentKey } from '../documents/document-key.js';
import { isMassDeletion } from '../planning/mass-change-guard.js';
import type { CancelTimer, Clock } from '../ports/clock.js';

export type DeletionSide = 'workspace' | 'store';

/** Deletions are gathered for this long, so that those of one accident are judged together. */
const GATHER_MS = 300;
/** Deletions this close to each other count as one pass. */
const PASS_MS = 30_000;

/**
 * Holds every deletion until those around it are known, then lets them through, or freezes them when together they look like an
 * accident. Frozen ones stay frozen until forced, or until the documents came back.
 */
export class DeletionGate {
  readonly #clock: Clock;
  readonly #documents: () => Iterable<DocumentKey>;
  readonly #decided: (keys: readonly DocumentKey[], frozen: boolean) => void;
  readonly #forced: boolean;
  readonly #proposed = new Map<DocumentKey, DeletionSide>();
  readonly #permitted = new Set<DocumentKey>();
  readonly #done = new Map<DocumentKey, { readonly at: number; readonly side: DeletionSide }>();
  #cancel: CancelTimer | undefined;
  #frozen = false;

  /** `documents` are those that exist, proposed ones included; `decided` is told of keys to plan again. */
  constructor(
    clock: Clock,
    forced: boolean,
    documents: () => Iterable<DocumentKey>,
    decided: (keys: readonly DocumentKey[], frozen: boolean) => void,
  ) {
    this.#clock = clock;
    this.#forced = forced;
    this.#documents = documents;
    this.#decided = decided;
  }

  /** The deletions that were held back, or an empty list. */
  get frozen(): readonly DocumentKey[] {
    return this.#frozen ? [...this.#proposed.keys()] : [];
  }

  get isGathering(): boolean {
    return this.#cancel !== undefined;
  }

  /** True when this deletion may be carried out now; else it is considered, and `decided` will tell. */
  propose(key: DocumentKey, side: DeletionSide): boolean {
    if (this.#permitted.delete(key)) {
      this.underWay(key, side);
      return true;
    }
    if (this.#proposed.get(key) === side) return false;
    this.#proposed.set(key, side);
    this.#cancel ??= this.#clock.after(GATHER_MS, () => {
      this.#cancel = undefined;
      this.#decide();
    });
    return false;
  }

  /** The deletion was begun; it counts for the judgement of those that follow. */
  underWay(key: DocumentKey, side: DeletionSide): void {
    this.#done.set(key, { at: this.#clock.monotonic(), side });
  }

  /** The document is not to be deleted any more. */
  withdraw(key: DocumentKey): void {
    this.#permitted.delete(key);
    if (this.#proposed.delete(key) && this.#proposed.size === 0) this.#frozen = false;
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #decide(): void {
    const since = this.#clock.monotonic() - PASS_MS;
    for (const [key, { at }] of this.#done) if (at < since) this.#done.delete(key);
    const done = [...this.#done.values()];
    const keys = [...this.#proposed.keys()];
    if (keys.length === 0) {
      this.#decided([], false);
      return;
    }
    const population = new Set([...this.#documents(), ...this.#done.keys()]).size;
    const suspicious = (['workspace', 'store'] as const).some((side) => {
      const proposed = [...this.#proposed.values()].filter((proposedSide) => proposedSide === side).length;
      return isMassDeletion(proposed + done.filter((one) => one.side === side).length, population);
    });
    this.#frozen = (this.#frozen || suspicious) && !this.#forced;
    if (!this.#frozen) {
      this.#proposed.clear();
      for (const key of keys) this.#permitted.add(key);
    }
    this.#decided(keys, this.#frozen);
  }
}
