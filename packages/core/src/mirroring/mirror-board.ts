import { shownName, type DocumentKey } from '../documents/document-key.js';
import { messageOf, TokenmirrorError } from '../errors.js';
import type { Clock } from '../ports/clock.js';
import type { Copy } from './copy-plan.js';

/** What happened at a mirror. Names and reasons only. */
export type MirrorEvent =
  | { readonly type: 'mirror-open'; readonly mirror: string }
  /** What waited was dealt with; its status is another one. */
  | { readonly type: 'mirror-caught-up'; readonly mirror: string }
  | { readonly type: 'mirror-trouble'; readonly mirror: string; readonly reason: string; readonly remedy: string }
  | { readonly type: 'mirror-back'; readonly mirror: string; readonly afterMs: number }
  | { readonly type: 'mirror-frozen'; readonly mirror: string; readonly documents: number }
  | { readonly type: 'mirror-ahead'; readonly mirror: string; readonly key: DocumentKey }
  | { readonly type: 'mirror-refused'; readonly mirror: string; readonly key: DocumentKey; readonly reason: string }
  | { readonly type: 'recovered'; readonly mirror: string; readonly key: DocumentKey };

export interface MirrorStatus {
  readonly name: string;
  readonly description: string;
  readonly state: 'starting' | 'in step' | 'behind' | 'in trouble';
  /** Documents that wait to be copied, and since when the oldest of them does; ms since the epoch. */
  readonly waiting: number;
  readonly behindSince: number | undefined;
  /** When all of it was last found equal; ms since the epoch. */
  readonly lastProof: number | undefined;
  readonly problem: { readonly reason: string; readonly remedy: string; readonly since: number } | undefined;
  readonly frozenDeletions: number;
  readonly ahead: readonly DocumentKey[];
  readonly refusals: readonly { readonly name: string; readonly reason: string }[];
  /** Documents that went back into the authority. */
  readonly recovered: number;
}

export interface MirrorBoardParts {
  /** As it is configured. */
  readonly name: string;
  readonly description: string;
  readonly clock: Clock;
  readonly emit: (event: MirrorEvent) => void;
}

/** Keeps what is true of a mirror now, and tells only what is new. */
export class MirrorBoard {
  readonly #parts: MirrorBoardParts;
  readonly #refusals = new Map<DocumentKey, string>();
  readonly #ahead = new Set<DocumentKey>();
  #frozen: ReadonlySet<DocumentKey> = new Set();
  #problem: { reason: string; remedy: string; since: number; startedAt: number } | undefined;
  #lastProof: number | undefined;
  #recovered = 0;

  constructor(parts: MirrorBoardParts) {
    this.#parts = parts;
  }

  get isInTrouble(): boolean {
    return this.#problem !== undefined;
  }

  /** `waiting` says of each document since when it waits; ms since the epoch. */
  status(waiting: ReadonlyMap<DocumentKey, number>): MirrorStatus {
    const problem = this.#problem && { reason: this.#problem.reason, remedy: this.#problem.remedy, since: this.#problem.since };
    const isBehind = waiting.size > 0 || this.#frozen.size > 0 || this.#ahead.size > 0 || this.#refusals.size > 0;
    return {
      name: this.#parts.name,
      description: this.#parts.description,
      state: problem !== undefined ? 'in trouble' : isBehind ? 'behind' : this.#lastProof === undefined ? 'starting' : 'in step',
      waiting: waiting.size,
      behindSince: waiting.size === 0 ? undefined : Math.min(...waiting.values()),
      lastProof: this.#lastProof,
      problem,
      frozenDeletions: this.#frozen.size,
      ahead: [...this.#ahead],
      refusals: [...this.#refusals].map(([key, reason]) => ({ name: shownName(key), reason })),
      recovered: this.#recovered,
    };
  }

  opened(): void {
    this.#parts.emit({ type: 'mirror-open', mirror: this.#parts.name });
  }

  /** What was planned for a document is what is to be said of it. */
  planned(key: DocumentKey, copy: Copy): void {
    if (copy.kind === 'refuse') this.refused(key, copy.reason);
    else if (copy.kind !== 'recover') this.#refusals.delete(key);
    if (copy.kind !== 'ahead') this.#ahead.delete(key);
    else if (!this.#ahead.has(key)) {
      this.#ahead.add(key);
      this.#parts.emit({ type: 'mirror-ahead', mirror: this.#parts.name, key });
    }
  }

  refused(key: DocumentKey, reason: string): void {
    if (this.#refusals.get(key) !== reason) this.#parts.emit({ type: 'mirror-refused', mirror: this.#parts.name, key, reason });
    this.#refusals.set(key, reason);
  }

  frozen(keys: ReadonlySet<DocumentKey>): void {
    if (keys.size > 0 && keys.size !== this.#frozen.size)
      this.#parts.emit({ type: 'mirror-frozen', mirror: this.#parts.name, documents: keys.size });
    this.#frozen = new Set(keys);
  }

  recovered(key: DocumentKey): void {
    this.#recovered += 1;
    this.#parts.emit({ type: 'recovered', mirror: this.#parts.name, key });
  }

  /** Everything was compared, and what differed dealt with. */
  proved(): void {
    this.#lastProof = this.#parts.clock.now();
  }

  caughtUp(): void {
    this.#parts.emit({ type: 'mirror-caught-up', mirror: this.#parts.name });
  }

  mended(): void {
    if (this.#problem === undefined) return;
    const { startedAt } = this.#problem;
    this.#problem = undefined;
    const afterMs = Math.round(this.#parts.clock.monotonic() - startedAt);
    this.#parts.emit({ type: 'mirror-back', mirror: this.#parts.name, afterMs });
  }

  trouble(error: unknown): void {
    const { name, clock, emit } = this.#parts;
    const reason = messageOf(error);
    const remedy = error instanceof TokenmirrorError ? error.remedy : 'Please report this.';
    if (this.#problem?.reason !== reason) emit({ type: 'mirror-trouble', mirror: name, reason, remedy });
    this.#problem = { since: clock.now(), startedAt: clock.monotonic(), ...this.#problem, reason, remedy };
  }
}
