import { isCredentialKey, type DocumentKey } from '../documents/document-key.js';
import { Hasher } from '../documents/hasher.js';
import type { HostSections } from '../documents/host-sections.js';
import { messageOf, TokenmirrorError } from '../errors.js';
import type { Custody } from '../custody/custody.js';
import { isInUse } from '../planning/base.js';
import type { Action } from '../planning/plan.js';
import type { BaseRecords } from '../ports/base-records.js';
import type { Clock, RandomSource } from '../ports/clock.js';
import type { ClusterIdentity, TokenStore } from '../ports/token-store.js';
import type { Workspace } from '../ports/workspace.js';
import { DeletionGate } from './deletion-gate.js';
import { Differences } from './differences.js';
import { DocumentQueue } from './document-queue.js';
import type { EngineEvent } from './events.js';
import { isStoreTrouble, Outage } from './outage.js';
import { Reconciler } from './reconciler.js';
import { Registration, type ReplicaNotes } from './registration.js';
import { StatusBoard, type EngineStatus } from './status-board.js';
import { StoreFeed } from './store-feed.js';
import { Timers } from './timers.js';

export interface EngineParts {
  readonly workspace: Workspace;
  readonly store: TokenStore;
  readonly cluster: ClusterIdentity;
  readonly bases: BaseRecords;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly replicaId: string;
  /** Where refresh tokens may be. */
  readonly custody: Custody;
  /** Stores besides the authority in which a lost grant may be found. */
  readonly elsewhere?: () => readonly TokenStore[];
  /** Told of everything that happens, in order. */
  readonly emit: (event: EngineEvent) => void;
}

/** One run of a replica, and what it tells the others. */
export interface Session {
  readonly id: string;
  readonly notes: ReplicaNotes;
}

export interface EngineOptions {
  readonly hostSections: HostSections;
  readonly maxDocumentBytes: number;
  /** How often the store is asked for what changed, in ms. Notifications only make it sooner. */
  readonly pollMs: number;
  /** How often the files are compared with what was last seen, in ms. */
  readonly sweepMs: number;
  /** For how long a replaced content that comes back is taken for an echo of CLIProxyAPI, in ms. */
  readonly echoMs: number;
  /** Lets a mass deletion through. */
  readonly force: boolean;
}

/** Enough to fill batches and hide the latency of a store, few enough to keep memory flat. */
const CONCURRENCY = 2048;
/** How often a replica says that it is still there, in ms. */
const SEEN_MS = 3_600_000;
/** How often a workspace that is not there is looked for, in ms. */
const MISSING_RETRY_MS = 1000;

/**
 * Keeps a workspace and its authority equal: observe → plan → act → record. Observers (file events, notifications, polls, sweeps) only
 * say "look at this document"; the reconciler does the rest.
 */
export class Engine {
  readonly #parts: EngineParts;
  readonly #options: EngineOptions;
  readonly #queue: DocumentQueue;
  readonly #gate: DeletionGate;
  readonly #reconciler: Reconciler;
  readonly #differences: Differences;
  readonly #board: StatusBoard;
  readonly #timers: Timers<string>;
  /** Documents that are not settled, and settled ones to be looked at once more. */
  readonly #waiting: Timers<DocumentKey>;
  readonly #verifying: Timers<DocumentKey>;
  readonly #outage: Outage;
  /** Documents that could not be read or written here; the next sweep tries again. */
  readonly #retries = new Set<DocumentKey>();
  readonly #feed: StoreFeed;
  /** Documents that differed at the last look everywhere and were not dealt with since. */
  #behind = new Set<DocumentKey>();
  #registration: Registration | undefined;
  #hasJoined = false;
  #closers: (() => Promise<void>)[] = [];
  #stopped = false;
  #wake: (() => void)[] = [];
  readonly #ended: Promise<void>;
  #end: () => void = () => undefined;
  readonly #failed: Promise<never>;
  #failWith: (error: unknown) => void = () => undefined;

  constructor(parts: EngineParts, options: EngineOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#failed = new Promise((_, reject) => {
      this.#failWith = reject;
    });
    this.#failed.catch(() => undefined);
    this.#timers = new Timers(parts.clock);
    this.#waiting = new Timers(parts.clock);
    this.#verifying = new Timers(parts.clock);
    this.#board = new StatusBoard(parts.clock, parts.emit);
    const emit = (event: EngineEvent): void => {
      this.#board.note(event);
    };
    this.#outage = new Outage({
      board: this.#board,
      timers: this.#timers,
      random: parts.random,
      tryToHeal: () => {
        this.#background(this.#tryToHeal());
      },
    });
    this.#queue = new DocumentQueue((key) => this.#work(key), CONCURRENCY);
    this.#gate = new DeletionGate(
      parts.clock,
      options.force,
      () => [...parts.bases.keys()].filter((key) => isCredentialKey(key) && isInUse(parts.bases.get(key))),
      (keys, frozen) => {
        if (frozen) emit({ type: 'deletions-frozen', keys });
        else for (const key of keys) this.look(key);
        this.#wakeAll();
      },
    );
    this.#feed = new StoreFeed({
      store: parts.store,
      isPaused: () => this.#board.isOut || this.#stopped,
      take: async (listing) => {
        for (const key of this.#differences.inStore(listing)) this.look(key);
        if (listing.complete) await this.#sweep();
      },
      background: (task) => {
        this.#background(task);
      },
    });
    const { workspace, store, bases, replicaId, custody, elsewhere = () => [] } = parts;
    const { hostSections, maxDocumentBytes } = options;
    this.#reconciler = new Reconciler({
      workspace,
      store,
      elsewhere,
      bases,
      replicaId,
      hostSections,
      maxDocumentBytes,
      emit,
      hasher: new Hasher(parts.cluster.key),
      custody,
      gate: this.#gate,
      clock: parts.clock,
      echoMs: options.echoMs,
    });
    this.#differences = new Differences({
      workspace,
      bases,
      replicaId,
      board: this.#board,
      gate: this.#gate,
      recordChanged: (key) => {
        if (this.#registration?.key === key) this.#background(this.#registration.check());
        else custody.recordChanged(key);
      },
    });
    custody.attach({
      look: (key) => {
        this.look(key);
      },
      isInSync: () => !this.#board.isOut && this.#board.hasSynced,
      background: (task) => {
        this.#background(task);
      },
    });
  }

  get status(): EngineStatus {
    const { bases } = this.#parts;
    const documents = [...bases.keys()].filter((key) => bases.get(key)?.local !== undefined).length;
    return this.#board.status(this.#gate.frozen, this.#queue.size + this.#waiting.size, documents);
  }

  /** Looks at one document soon. */
  look(key: DocumentKey): void {
    if (this.#stopped || !this.#hasJoined || !this.#parts.workspace.holds(key)) return;
    if (this.#board.isOut) this.#outage.missed(key);
    else this.#queue.add(key);
  }

  /**
   * One full pass: every document that differs from what was last seen is brought in line. Resolves when all of it settled.
   * @throws TokenmirrorError of the store, which is left to the caller
   */
  async pass(): Promise<void> {
    await this.#join();
    await this.#lookEverywhere();
    await this.settled();
    this.#board.synced();
  }

  /** What a pass would do, document by document, changing nothing. */
  async preview(): Promise<ReadonlyMap<DocumentKey, Action>> {
    const actions = new Map<DocumentKey, Action>();
    const listing = await this.#parts.store.list();
    const here = this.#parts.workspace.presence() === 'missing' ? [] : await this.#differences.files(true);
    for (const key of new Set([...this.#differences.inStore(listing), ...here])) {
      if (!this.#parts.workspace.holds(key)) continue;
      const action = await this.#reconciler.preview(key);
      if (action.kind !== 'nothing') actions.set(key, action);
    }
    return actions;
  }

  /**
   * Runs until `stop`. Starts with a full pass; an outage of the store is waited out at any time, the start included.
   * @throws TokenmirrorError REPLICA_DUPLICATE, or any failure that waiting cannot mend
   */
  async run(session: Session, ready: () => void): Promise<void> {
    const { store, workspace, replicaId } = this.#parts;
    this.#registration = new Registration(store, replicaId, session.id, session.notes);
    await this.#attach(
      workspace.watch((key) => {
        if (key === undefined) this.#background(this.#sweep());
        else this.look(key);
      }),
    );
    const start = async (): Promise<void> => {
      await this.#throughOutages(async () => {
        await this.#registration?.register();
        await this.#join();
        if (store.watch === undefined) return;
        await this.#attach(
          store.watch(() => {
            this.#feed.hint();
          }),
        );
      });
      await this.#throughOutages(() => this.#catchUp());
      if (this.#stopped) return;
      this.#every('sweep', this.#options.sweepMs, () => this.#sweep());
      this.#every('poll', this.#options.pollMs, () => this.#feed.ask());
      this.#every('seen', SEEN_MS, async () => this.#registration?.touch());
      ready();
      await this.#ended;
    };
    await Promise.race([start(), this.#failed]);
  }

  /** Ends `run` with an error that came from outside, also before it began. */
  fail(error: unknown): void {
    this.#failWith(error);
  }

  /** Lets documents under way finish, then ends everything. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    for (const timers of [this.#timers, this.#waiting, this.#verifying]) timers.cancelAll();
    this.#gate.stop();
    this.#parts.custody.stop();
    for (const close of this.#closers.splice(0)) await close();
    await this.#queue.idle();
    if (this.#hasJoined && !this.#board.isOut) await this.#registration?.touch(true).catch(() => undefined);
    this.#wakeAll();
    this.#end();
  }

  /** Resolves when nothing is under way, waits to be looked at again, or is gathered. Frozen deletions do not count. */
  async settled(): Promise<void> {
    for (;;) {
      await this.#queue.idle();
      if (this.#stopped || this.#board.isOut) return;
      if (this.#waiting.size === 0 && !this.#gate.isGathering && this.#queue.size === 0) return;
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  async #join(): Promise<void> {
    if (this.#hasJoined) return;
    const keys = await this.#parts.custody.join();
    this.#hasJoined = true;
    for (const key of keys) this.look(key);
  }

  /** Looks at every document that differs from what was last seen. */
  async #lookEverywhere(): Promise<void> {
    const listing = await this.#feed.everything();
    const differing = await this.#differences.anywhere(listing);
    this.#behind = new Set([...differing].filter((key) => this.#parts.workspace.holds(key)));
    for (const key of differing) this.look(key);
  }

  /** Like a pass, but does not wait for what changes meanwhile: beside a busy CLIProxyAPI something always does. */
  async #catchUp(): Promise<void> {
    await this.#lookEverywhere();
    while (this.#behind.size > 0 && !this.#stopped && !this.#board.isOut) await new Promise<void>((resolve) => this.#wake.push(resolve));
    this.#board.synced();
  }

  /** Keeps a watcher to be ended at `stop`, or ends it at once when that came first. */
  async #attach(watching: Promise<() => Promise<void>>): Promise<void> {
    const close = await watching;
    if (this.#stopped) await close();
    else this.#closers.push(close);
  }

  async #work(key: DocumentKey): Promise<void> {
    try {
      const verdict = await this.#reconciler.reconcile(key);
      if (verdict === 'failed') this.#retries.add(key);
      else if (verdict !== undefined && 'verifyInMs' in verdict) this.#verifyLater(key, verdict.verifyInMs);
      else if (verdict !== undefined) this.#lookLater(key, verdict.lookAgainInMs);
      if (verdict === undefined || verdict === 'failed' || 'verifyInMs' in verdict) this.#behind.delete(key);
    } catch (error) {
      if (isStoreTrouble(error)) {
        this.#outage.missed(key);
        this.#enterOutage(error);
      } else if (error instanceof TokenmirrorError && error.code === 'ENCRYPTION_KEY') this.fail(error);
      else {
        this.#retries.add(key);
        this.#behind.delete(key);
        this.#board.note({ type: 'refused', name: key, side: 'workspace', reason: messageOf(error) });
      }
    } finally {
      this.#wakeAll();
    }
  }

  #lookLater(key: DocumentKey, ms: number): void {
    if (this.#stopped) return;
    this.#waiting.start(key, ms, () => {
      this.look(key);
      this.#wakeAll();
    });
  }

  /** Nobody waits for this look. */
  #verifyLater(key: DocumentKey, ms: number): void {
    if (this.#stopped) return;
    this.#verifying.restart(key, ms, () => {
      this.#background(this.#verify(key));
    });
  }

  async #verify(key: DocumentKey): Promise<void> {
    const verdict = await this.#reconciler.verify(key);
    if (verdict === 'changed') this.look(key);
    else if (typeof verdict === 'object' && 'verifyInMs' in verdict) this.#verifyLater(key, verdict.verifyInMs);
  }

  async #changedFiles(): Promise<Set<DocumentKey>> {
    const changed = await this.#differences.inWorkspace();
    if (this.#board.isWorkspaceMissing) this.#later('missing', MISSING_RETRY_MS, () => this.#sweep());
    return changed;
  }

  async #sweep(): Promise<void> {
    const changed = await this.#changedFiles();
    const retries = [...this.#retries];
    this.#retries.clear();
    for (const key of [...retries, ...changed]) this.look(key);
  }

  #enterOutage(error: unknown): void {
    if (!this.#stopped) this.#outage.enter(error);
  }

  async #tryToHeal(): Promise<void> {
    const listing = await this.#feed.everything();
    await this.#registration?.check();
    const changed = this.#differences.inStore(listing);
    for (const key of [...this.#outage.healed(), ...changed]) this.look(key);
    this.#wakeAll();
    await this.#sweep();
    await this.settled();
    if (!this.#board.isOut) this.#outage.isOver();
  }

  async #throughOutages(work: () => Promise<void>): Promise<void> {
    for (;;) {
      try {
        await work();
        if (!this.#board.isOut) return;
      } catch (error) {
        if (!isStoreTrouble(error)) throw error;
        this.#enterOutage(error);
      }
      await this.#healedOrStopped();
      if (this.#stopped) return;
    }
  }

  async #healedOrStopped(): Promise<void> {
    while (this.#board.isOut && !this.#stopped) await new Promise<void>((resolve) => this.#wake.push(resolve));
  }

  /** Runs a task that nobody waits for: an outage is entered, an unreadable workspace is told of, anything else ends the run. */
  #background(task: Promise<void>): void {
    task.catch((error: unknown) => {
      if (isStoreTrouble(error)) this.#enterOutage(error);
      else if (error instanceof TokenmirrorError && error.code === 'WORKSPACE_DENIED') {
        this.#board.note({ type: 'refused', name: 'auths/', side: 'workspace', reason: error.message });
      } else this.fail(error);
    });
  }

  #later(name: string, ms: number, task: () => Promise<void>): void {
    if (this.#stopped) return;
    this.#timers.start(name, ms, () => {
      this.#background(task());
    });
  }

  #every(name: string, ms: number, task: () => Promise<void>): void {
    this.#later(name, ms, () =>
      task().finally(() => {
        this.#every(name, ms, task);
      }),
    );
  }

  #wakeAll(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}
