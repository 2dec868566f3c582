import { readDocumentKey, shownName, type DocumentKey } from '../documents/document-key.js';
import { Hasher } from '../documents/hasher.js';
import { isOutage, messageOf, TokenmirrorError } from '../errors.js';
import { isMassDeletion } from '../planning/mass-change-guard.js';
import type { CancelTimer, Clock, RandomSource } from '../ports/clock.js';
import type { Change, ClusterIdentity, Entry, Revision, TokenStore } from '../ports/token-store.js';
import { backoffMs } from '../engine/backoff.js';
import { planCopy, type Copy } from './copy-plan.js';

export interface MirrorParts {
  /** As it is configured. */
  readonly name: string;
  readonly store: TokenStore;
  readonly authority: TokenStore;
  readonly cluster: ClusterIdentity;
  readonly replicaId: string;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly emit: (event: MirrorEvent) => void;
}

export interface MirrorOptions {
  readonly maxDocumentBytes: number;
  /** How often everything is compared, in ms. */
  readonly intervalMs: number;
  /** Lets a mass deletion through. */
  readonly force: boolean;
}

/** What happened at a mirror. Names and reasons only. */
export type MirrorEvent =
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
}

const LARGEST_BATCH = 500;

/**
 * Keeps a further store as the authority is: what this replica changed at once, everything at intervals. Each copy is read back. Its troubles are its own: the authority and the
 * workspace know nothing of them. What the authority lacks without a tombstone goes back there.
 */
export class Mirror {
  readonly #parts: MirrorParts;
  readonly #options: MirrorOptions;
  readonly #hasher: Hasher;
  /** Documents to be looked at, and since when; ms since the epoch. */
  readonly #waiting = new Map<DocumentKey, number>();
  /** Revisions of both sides that were found to belong together. */
  readonly #matched = new Map<DocumentKey, { readonly authority: Revision | undefined; readonly mirror: Revision | undefined }>();
  readonly #refusals = new Map<DocumentKey, string>();
  readonly #ahead = new Set<DocumentKey>();
  #frozen = new Set<DocumentKey>();
  #population = 0;
  #isOpen = false;
  #problem: { reason: string; remedy: string; since: number; startedAt: number } | undefined;
  #lastProof: number | undefined;
  #attempts = 0;
  #working: Promise<boolean> | undefined;
  #compareAll = false;
  #timers = new Set<CancelTimer>();
  #stopped = false;

  constructor(parts: MirrorParts, options: MirrorOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#hasher = new Hasher(parts.cluster.key);
  }

  /** The store, where it can be asked. */
  get source(): TokenStore | undefined {
    return this.#isOpen && this.#problem === undefined ? this.#parts.store : undefined;
  }

  get status(): MirrorStatus {
    const problem = this.#problem && { reason: this.#problem.reason, remedy: this.#problem.remedy, since: this.#problem.since };
    const isBehind = this.#waiting.size > 0 || this.#frozen.size > 0 || this.#ahead.size > 0 || this.#refusals.size > 0;
    return {
      name: this.#parts.name,
      description: this.#parts.store.description,
      state: problem !== undefined ? 'in trouble' : isBehind ? 'behind' : this.#lastProof === undefined ? 'starting' : 'in step',
      waiting: this.#waiting.size,
      behindSince: this.#waiting.size === 0 ? undefined : Math.min(...this.#waiting.values()),
      lastProof: this.#lastProof,
      problem,
      frozenDeletions: this.#frozen.size,
      ahead: [...this.#ahead],
      refusals: [...this.#refusals].map(([key, reason]) => ({ name: shownName(key), reason })),
    };
  }

  /** Compares everything now and at intervals, until `stop`. */
  start(): void {
    void this.settle();
    const { intervalMs } = this.#options;
    this.#after(intervalMs / 2 + this.#parts.random() * intervalMs, () => {
      this.start();
    });
  }

  /** This replica changed the document in the authority. */
  look(key: DocumentKey): void {
    if (this.#stopped) return;
    if (!this.#waiting.has(key)) this.#waiting.set(key, this.#parts.clock.now());
    void this.#work();
  }

  /** Compares everything, and copies what differs. Resolves when that is done, or when there is trouble. Never throws. */
  async settle(): Promise<void> {
    this.#compareAll = true;
    while (await this.#work()) if (!this.#isComparisonDue) return;
  }

  get #isComparisonDue(): boolean {
    return this.#compareAll && !this.#stopped;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const cancel of this.#timers) cancel();
    await this.#working;
    await this.#parts.store.close();
  }

  /** One at a time; `false` when there was trouble. */
  #work(): Promise<boolean> {
    this.#working ??= this.#catchUp().finally(() => {
      this.#working = undefined;
    });
    return this.#working;
  }

  async #catchUp(): Promise<boolean> {
    try {
      if (!this.#isOpen) await this.#open();
      while (!this.#stopped && (this.#compareAll || this.#waiting.size > 0)) {
        const isComparison = this.#compareAll;
        if (isComparison) await this.#compare();
        await this.#copyWaiting();
        if (isComparison) this.#lastProof = this.#parts.clock.now();
      }
      this.#mended();
      return true;
    } catch (error) {
      if (!(error instanceof AuthorityTrouble)) this.#meetTrouble(error);
      this.#after(backoffMs(this.#attempts, this.#parts.random), () => void this.#work());
      this.#attempts += 1;
      return false;
    }
  }

  async #open(): Promise<void> {
    const { store, cluster } = this.#parts;
    const identity = await store.open('create');
    if (identity?.id === cluster.id) {
      throw new TokenmirrorError(
        'STORE_INVALID',
        `the mirror ${store.description} is the authority itself`,
        'Name another place, or another prefix.',
      );
    }
    this.#isOpen = true;
  }

  /** Finds what differs from what was last matched. */
  async #compare(): Promise<void> {
    const [there, here] = [await ofAuthority(this.#parts.authority.list()), await this.#parts.store.list()];
    const revisions = (listing: typeof there): Map<DocumentKey, Revision> =>
      new Map(
        listing.entries.flatMap(({ name, state, revision }) => {
          const reading = readDocumentKey(name);
          return reading.ok && state !== 'absent' ? [[reading.key, revision]] : [];
        }),
      );
    const [authority, mirror] = [revisions(there), revisions(here)];
    this.#population = here.entries.filter(({ name, state }) => state === 'live' && readDocumentKey(name).ok).length;
    const now = this.#parts.clock.now();
    for (const key of new Set([...authority.keys(), ...mirror.keys()])) {
      const matched = this.#matched.get(key);
      const isMatched = matched !== undefined && matched.authority === authority.get(key) && matched.mirror === mirror.get(key);
      if (!isMatched && !this.#waiting.has(key)) this.#waiting.set(key, now);
    }
    this.#compareAll = false;
  }

  async #copyWaiting(): Promise<void> {
    const deletions: { readonly key: DocumentKey; readonly change: Change }[] = [];
    while (this.#waiting.size > 0 && !this.#stopped) {
      const keys = [...this.#waiting.keys()].slice(0, LARGEST_BATCH);
      deletions.push(...(await this.#copy(keys)));
    }
    await this.#delete(deletions);
  }

  /** Copies documents; deletions are returned, to be judged together. */
  async #copy(keys: readonly DocumentKey[]): Promise<{ readonly key: DocumentKey; readonly change: Change }[]> {
    const { authority, store } = this.#parts;
    const [there, here] = [await ofAuthority(authority.read(keys)), await store.read(keys)];
    const deletions: { readonly key: DocumentKey; readonly change: Change }[] = [];
    const writes: Change[] = [];
    const recoveries: Change[] = [];
    for (const key of keys) {
      const [original, copy] = [there.get(key), here.get(key)];
      const planned = planCopy(key, original, copy, { hasher: this.#hasher, maxDocumentBytes: this.#options.maxDocumentBytes });
      this.#note(key, planned);
      const expected = copy?.revision ?? ('absent' as const);
      if (planned.kind === 'write') writes.push({ key, expected, content: planned.content, lineage: planned.lineage });
      else if (planned.kind === 'delete') deletions.push({ key, change: { key, expected, content: null, lineage: planned.lineage } });
      else if (planned.kind === 'recover')
        recoveries.push({ key, expected: original?.revision ?? 'absent', content: planned.content, lineage: planned.lineage });
      else this.#match(key, original, copy);
    }
    await this.#recover(recoveries);
    await this.#write(writes, there);
    for (const { key } of deletions) this.#waiting.delete(key);
    return deletions;
  }

  async #write(changes: readonly Change[], there: ReadonlyMap<string, Entry>): Promise<void> {
    if (changes.length === 0) return;
    const { store, replicaId } = this.#parts;
    const outcomes = await store.write(changes, replicaId);
    const keys = changes.map(({ key }) => key as DocumentKey);
    const readBack = await store.read(keys);
    for (const [n, key] of keys.entries()) {
      const outcome = outcomes[n];
      if (outcome?.status === 'unacceptable') {
        this.#refuse(key, outcome.reason);
        this.#match(key, there.get(key), readBack.get(key));
      } else if (outcome?.status === 'written') this.#prove(key, there.get(key), readBack.get(key));
    }
  }

  /** What was written must be there; what somebody else wrote meanwhile is planned again. */
  #prove(key: DocumentKey, original: Entry | undefined, copy: Entry | undefined): void {
    const rules = { hasher: this.#hasher, maxDocumentBytes: this.#options.maxDocumentBytes };
    if (planCopy(key, original, copy, rules).kind === 'nothing') {
      this.#match(key, original, copy);
      return;
    }
    throw new TokenmirrorError(
      'STORE_UNSUITABLE',
      `the mirror ${this.#parts.store.description} did not give back what was written (${shownName(key)})`,
      'Look at who else writes there; it is tried again by itself.',
    );
  }

  /** Puts back into the authority what it lacks without a tombstone. */
  async #recover(changes: readonly Change[]): Promise<void> {
    if (changes.length === 0) return;
    const { authority, replicaId, name, emit } = this.#parts;
    const outcomes = await ofAuthority(authority.write(changes, replicaId));
    for (const [n, { key }] of changes.entries()) {
      if (outcomes[n]?.status === 'written') emit({ type: 'recovered', mirror: name, key: key as DocumentKey });
      else if (outcomes[n]?.status === 'unacceptable') this.#waiting.delete(key as DocumentKey);
    }
  }

  async #delete(deletions: readonly { readonly key: DocumentKey; readonly change: Change }[]): Promise<void> {
    const { store, replicaId, name, emit } = this.#parts;
    const all = new Set([...this.#frozen, ...deletions.map(({ key }) => key)]);
    if (!this.#options.force && isMassDeletion(all.size, Math.max(this.#population, all.size))) {
      if (this.#frozen.size !== all.size) emit({ type: 'mirror-frozen', mirror: name, documents: all.size });
      this.#frozen = all;
      return;
    }
    if (deletions.length === 0) return;
    await store.write(
      deletions.map(({ change }) => change),
      replicaId,
    );
    this.#population -= deletions.length;
    for (const { key } of deletions) this.look(key);
  }

  /** Keeps refusals, ahead and frozen as they are now, and tells of what is new. */
  #note(key: DocumentKey, planned: Copy): void {
    const { name, emit } = this.#parts;
    if (planned.kind === 'refuse') this.#refuse(key, planned.reason);
    else this.#refusals.delete(key);
    if (planned.kind === 'ahead' && !this.#ahead.has(key)) emit({ type: 'mirror-ahead', mirror: name, key });
    if (planned.kind === 'ahead') this.#ahead.add(key);
    else this.#ahead.delete(key);
    if (planned.kind !== 'delete') this.#frozen.delete(key);
  }

  #refuse(key: DocumentKey, reason: string): void {
    if (this.#refusals.get(key) !== reason) this.#parts.emit({ type: 'mirror-refused', mirror: this.#parts.name, key, reason });
    this.#refusals.set(key, reason);
  }

  #match(key: DocumentKey, original: Entry | undefined, copy: Entry | undefined): void {
    this.#matched.set(key, { authority: original?.revision, mirror: copy?.revision });
    this.#waiting.delete(key);
  }

  #mended(): void {
    this.#attempts = 0;
    if (this.#problem === undefined) return;
    const { startedAt } = this.#problem;
    this.#problem = undefined;
    this.#parts.emit({ type: 'mirror-back', mirror: this.#parts.name, afterMs: Math.round(this.#parts.clock.monotonic() - startedAt) });
  }

  #meetTrouble(error: unknown): void {
    const { name, clock, emit } = this.#parts;
    const reason = messageOf(error);
    const remedy = error instanceof TokenmirrorError ? error.remedy : 'Please report this.';
    if (this.#problem?.reason !== reason) emit({ type: 'mirror-trouble', mirror: name, reason, remedy });
    this.#problem = { since: clock.now(), startedAt: clock.monotonic(), ...this.#problem, reason, remedy };
    if (this.#isOpen && !isOutage(error)) this.#isOpen = false;
  }

  #after(ms: number, callback: () => void): void {
    if (this.#stopped) return;
    const cancel = this.#parts.clock.after(ms, () => {
      this.#timers.delete(cancel);
      callback();
    });
    this.#timers.add(cancel);
  }
}

/** The authority is out of reach, which the engine sees for itself: no trouble of the mirror's. */
class AuthorityTrouble extends Error {}

async function ofAuthority<T>(asking: Promise<T>): Promise<T> {
  try {
    return await asking;
  } catch (cause) {
    throw new AuthorityTrouble('the authority is out of reach', { cause });
  }
}
