import { readDocumentKey, shownName, type DocumentKey } from '../documents/document-key.js';
import { Hasher } from '../documents/hasher.js';
import { backoffMs } from '../engine/backoff.js';
import { isOutage, messageOf, TokenmirrorError } from '../errors.js';
import { isMassDeletion } from '../planning/mass-change-guard.js';
import type { CancelTimer, Clock, RandomSource } from '../ports/clock.js';
import type { Change, ClusterIdentity, Entry, Listing, Revision, TokenStore } from '../ports/token-store.js';
import { isUsable, objection, planCopy, type Copy, type CopyRules } from './copy-plan.js';
import { claimMirror } from './mirror-claim.js';

export interface MirrorParts {
  /** As it is configured. */
  readonly name: string;
  readonly store: TokenStore;
  readonly authority: TokenStore;
  readonly cluster: ClusterIdentity;
  readonly replicaId: string;
  readonly clock: Clock;
  readonly random: RandomSource;
  /** The other mirrors that can be asked. */
  readonly others: () => readonly TokenStore[];
  readonly emit: (event: MirrorEvent) => void;
}

export interface MirrorOptions {
  readonly maxDocumentBytes: number;
  /** How often everything is compared, in ms. */
  readonly intervalMs: number;
  /** Lets a mass deletion through. */
  readonly force: boolean;
  /** Takes over a mirror of another cluster. */
  readonly adopt: boolean;
}

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

const LARGEST_BATCH = 500;
/** Rounds over documents that others keep changing, before a pause. */
const ROUNDS = 8;

/**
 * Keeps a further store as the authority is: what this replica changed at once, everything at intervals. Each copy is read back. Its troubles are its own: the authority and the
 * workspace know nothing of them. What the authority lacks without a tombstone goes back there.
 */
export class Mirror {
  readonly #parts: MirrorParts;
  readonly #options: MirrorOptions;
  readonly #rules: CopyRules;
  /** Documents to be looked at, and since when; ms since the epoch. */
  readonly #waiting = new Map<DocumentKey, number>();
  /** Revisions of both sides that were found to belong together. */
  readonly #matched = new Map<DocumentKey, { readonly authority: Revision | undefined; readonly mirror: Revision | undefined }>();
  readonly #refusals = new Map<DocumentKey, string>();
  readonly #ahead = new Set<DocumentKey>();
  #frozen = new Set<DocumentKey>();
  /** What is live in the mirror. */
  #live = new Set<DocumentKey>();
  #isOpen = false;
  #problem: { reason: string; remedy: string; since: number; startedAt: number } | undefined;
  #lastProof: number | undefined;
  #recovered = 0;
  #attempts = 0;
  #working: Promise<boolean> | undefined;
  #compareAll = false;
  #retry: CancelTimer | undefined;
  #interval: CancelTimer | undefined;
  #stopped = false;

  constructor(parts: MirrorParts, options: MirrorOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#rules = { hasher: new Hasher(parts.cluster.key), maxDocumentBytes: options.maxDocumentBytes };
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
      recovered: this.#recovered,
    };
  }

  /** Makes the store ready to be asked. Resolves also when it cannot be; never throws. */
  async connect(): Promise<void> {
    await this.#work();
  }

  /** Compares everything now and at intervals, until `stop`. */
  start(): void {
    if (this.#stopped) return;
    void this.settle();
    const { intervalMs } = this.#options;
    this.#interval = this.#parts.clock.after(intervalMs / 2 + this.#parts.random() * intervalMs, () => {
      this.start();
    });
  }

  /** This replica changed the document in the authority. */
  look(key: DocumentKey): void {
    if (this.#stopped) return;
    this.#wait([key]);
    if (this.#retry === undefined) void this.#work();
  }

  /** Compares everything, and copies what differs. Resolves when that is done, or when there is trouble. Never throws. */
  async settle(): Promise<void> {
    this.#compareAll = true;
    while (await this.#work()) if (!this.#isComparisonDue) return;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#retry?.();
    this.#interval?.();
    await this.#working;
    await this.#parts.store.close();
  }

  get #isComparisonDue(): boolean {
    return this.#compareAll && !this.#stopped;
  }

  /** One at a time; `false` when there was trouble. */
  #work(): Promise<boolean> {
    this.#working ??= this.#catchUp().finally(() => {
      this.#working = undefined;
    });
    return this.#working;
  }

  async #catchUp(): Promise<boolean> {
    this.#retry?.();
    this.#retry = undefined;
    const isDue = this.#compareAll || this.#waiting.size > 0;
    try {
      if (!this.#isOpen) await this.#open();
      for (let round = 1; !this.#stopped && (this.#compareAll || this.#waiting.size > 0); round += 1) {
        if (round > ROUNDS) {
          this.#tryLater();
          return true;
        }
        const isComparison = this.#compareAll;
        if (isComparison) await this.#compare();
        await this.#copyWaiting();
        if (isComparison) this.#lastProof = this.#parts.clock.now();
      }
      this.#mended();
      if (isDue) this.#parts.emit({ type: 'mirror-caught-up', mirror: this.#parts.name });
      return true;
    } catch (error) {
      if (!(error instanceof AuthorityTrouble)) this.#meetTrouble(error);
      this.#tryLater();
      return false;
    }
  }

  async #open(): Promise<void> {
    const { store, cluster, authority, replicaId, name, emit } = this.#parts;
    const identity = await store.open('create');
    if (identity?.id === cluster.id) {
      throw new TokenmirrorError(
        'STORE_INVALID',
        `the mirror ${store.description} is the authority itself`,
        'Name another place, or another prefix.',
      );
    }
    const isEmpty = async (): Promise<boolean> => {
      const keys = [...liveIn(await ofAuthority(authority.list()))];
      const entries = await ofAuthority(authority.read(keys));
      return !keys.some((key) => isUsable(key, entries.get(key), this.#rules));
    };
    await claimMirror(store, { cluster: cluster.id, author: replicaId, isFree: async () => this.#options.adopt || (await isEmpty()) });
    this.#isOpen = true;
    emit({ type: 'mirror-open', mirror: name });
  }

  /** Finds what differs from what was last matched. The mirror is listed first: what changes meanwhile is then seen as a difference. */
  async #compare(): Promise<void> {
    this.#compareAll = false;
    const here = await this.#parts.store.list();
    const there = await ofAuthority(this.#parts.authority.list());
    const [mirror, authority] = [revisionsIn(here), revisionsIn(there)];
    this.#live = liveIn(here);
    this.#wait(
      [...new Set([...authority.keys(), ...mirror.keys()])].filter((key) => {
        const matched = this.#matched.get(key);
        return matched?.authority !== authority.get(key) || matched?.mirror !== mirror.get(key) || this.#frozen.has(key);
      }),
    );
  }

  async #copyWaiting(): Promise<void> {
    const deletions = new Map<DocumentKey, Change>();
    try {
      for (let left = this.#waiting.size; left > 0 && !this.#stopped; left -= LARGEST_BATCH) {
        const keys = [...this.#waiting.keys()].slice(0, Math.min(left, LARGEST_BATCH));
        await this.#taking(keys, () => this.#copy(keys, deletions));
      }
      await this.#delete(deletions);
    } catch (error) {
      this.#wait(deletions.keys());
      throw error;
    }
  }

  /** What changes while documents are copied waits anew; after a failure all of them do, as long as before. */
  async #taking(keys: readonly DocumentKey[], work: () => Promise<void>): Promise<void> {
    const since = new Map(keys.map((key) => [key, this.#waiting.get(key) ?? this.#parts.clock.now()]));
    for (const key of keys) this.#waiting.delete(key);
    try {
      await work();
    } catch (error) {
      for (const [key, at] of since) this.#waiting.set(key, at);
      throw error;
    }
  }

  async #copy(keys: readonly DocumentKey[], deletions: Map<DocumentKey, Change>): Promise<void> {
    const here = await this.#parts.store.read(keys);
    const there = await ofAuthority(this.#parts.authority.read(keys));
    const writes: Change[] = [];
    const recoveries: Change[] = [];
    for (const key of keys) {
      const [original, copy] = [there.get(key), here.get(key)];
      const planned = planCopy(key, original, copy, this.#rules);
      this.#note(key, planned);
      const expected = copy?.revision ?? ('absent' as const);
      if (planned.kind === 'write') writes.push({ key, expected, content: planned.content, lineage: planned.lineage });
      else if (planned.kind === 'delete') deletions.set(key, { key, expected, content: null, lineage: planned.lineage });
      else if (planned.kind === 'recover')
        recoveries.push({ key, expected: original?.revision ?? 'absent', content: planned.content, lineage: planned.lineage });
      else this.#match(key, original, copy);
    }
    await this.#write(writes, there);
    await this.#recover(recoveries, here);
  }

  async #write(changes: readonly Change[], there: ReadonlyMap<string, Entry>): Promise<void> {
    if (changes.length === 0) return;
    const { store, replicaId } = this.#parts;
    const outcomes = await store.write(changes, replicaId);
    const keys = changes.map(({ key }) => key as DocumentKey);
    const readBack = await store.read(keys);
    for (const [n, key] of keys.entries()) {
      const [outcome, original, copy] = [outcomes[n], there.get(key), readBack.get(key)];
      if (outcome?.status === 'unacceptable') this.#refuse(key, outcome.reason);
      else if (outcome?.status !== 'written' || (copy !== undefined && copy.revision !== outcome.revision)) {
        this.#wait([key]);
        continue;
      } else if (planCopy(key, original, copy, this.#rules).kind !== 'nothing')
        this.#refuse(key, 'the mirror did not give back what was written');
      else this.#live.add(key);
      this.#match(key, original, copy);
    }
  }

  /** Puts back into the authority what it lacks without a tombstone, unless another mirror knows better. */
  async #recover(changes: readonly Change[], here: ReadonlyMap<string, Entry>): Promise<void> {
    if (changes.length === 0) return;
    const { authority, replicaId, name, others, emit } = this.#parts;
    const keys = changes.map(({ key }) => key as DocumentKey);
    const elsewhere = await Promise.all(others().map((other) => other.read(keys).catch(() => new Map<string, Entry>())));
    const welcome = changes.filter(({ key }) => {
      const copy = here.get(key);
      if (copy?.state !== 'live') return false;
      const reason = elsewhere
        .map((entries) => objection(key as DocumentKey, copy, entries.get(key), this.#rules))
        .find((found) => found !== undefined);
      if (reason !== undefined) this.#refuse(key as DocumentKey, reason);
      return reason === undefined;
    });
    const outcomes = await ofAuthority(authority.write(welcome, replicaId));
    for (const [n, { key }] of welcome.entries()) {
      const outcome = outcomes[n];
      if (outcome?.status === 'unacceptable') this.#refuse(key as DocumentKey, `the authority cannot keep it: ${outcome.reason}`);
      else this.#wait([key as DocumentKey]);
      if (outcome?.status !== 'written') continue;
      this.#recovered += 1;
      emit({ type: 'recovered', mirror: name, key: key as DocumentKey });
    }
  }

  async #delete(deletions: ReadonlyMap<DocumentKey, Change>): Promise<void> {
    const { store, replicaId, name, emit } = this.#parts;
    const all = new Set([...this.#frozen, ...deletions.keys()]);
    if (!this.#options.force && isMassDeletion(all.size, Math.max(this.#live.size, all.size))) {
      if (this.#frozen.size !== all.size) emit({ type: 'mirror-frozen', mirror: name, documents: all.size });
      this.#frozen = all;
      return;
    }
    if (deletions.size === 0) return;
    await store.write([...deletions.values()], replicaId);
    for (const key of deletions.keys()) this.#live.delete(key);
    this.#wait(deletions.keys());
  }

  #wait(keys: Iterable<DocumentKey>): void {
    const now = this.#parts.clock.now();
    for (const key of keys) if (!this.#waiting.has(key)) this.#waiting.set(key, now);
  }

  /** Keeps refusals, ahead and frozen as they are now, and tells of what is new. */
  #note(key: DocumentKey, planned: Copy): void {
    const { name, emit } = this.#parts;
    if (planned.kind === 'refuse') this.#refuse(key, planned.reason);
    else if (planned.kind !== 'recover') this.#refusals.delete(key);
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

  #tryLater(): void {
    if (this.#stopped) return;
    this.#retry?.();
    this.#retry = this.#parts.clock.after(backoffMs(this.#attempts, this.#parts.random), () => {
      this.#retry = undefined;
      void this.#work();
    });
    this.#attempts += 1;
  }
}

function revisionsIn({ entries }: Listing): ReadonlyMap<DocumentKey, Revision> {
  return new Map(
    entries.flatMap(({ name, state, revision }) => {
      const reading = readDocumentKey(name);
      return reading.ok && state !== 'absent' ? [[reading.key, revision]] : [];
    }),
  );
}

function liveIn({ entries }: Listing): Set<DocumentKey> {
  return new Set(
    entries.flatMap(({ name, state }) => {
      const reading = readDocumentKey(name);
      return reading.ok && state === 'live' ? [reading.key] : [];
    }),
  );
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
