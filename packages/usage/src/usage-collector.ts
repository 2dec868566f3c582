import { explain, Subscription, type ManagementClient, type Refusal } from '@tokenmirror/cliproxy-client';
import { messageOf, type CancelTimer, type Clock, type Log, type RandomSource } from '@tokenmirror/core';
import type { QuotaCrossing } from '@tokenmirror/key-expiry';
import type { Ledger } from './ledger.js';
import { LossWatch } from './loss-watch.js';
import { SnapshotSync } from './snapshot-sync.js';
import type { Spool } from './spool.js';
import { isRecorded, popOverHttp, popOverResp, probeUsage, turnOn, type Interface } from './usage-calls.js';
import { readRecord, type UsageEvent } from './usage-event.js';

export interface UsageCollectorParts {
  /** The CLIProxyAPI, as the ledger calls it. */
  readonly origin: string;
  readonly client: ManagementClient;
  /** @throws TokenmirrorError STORE_UNREACHABLE while it is not open */
  readonly ledger: () => Ledger;
  readonly spool: Spool;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly log: Log;
  /** How often an export is read, and looked through for what it lost, in ms. */
  readonly snapshotMs: number;
  readonly recoveryMs: number;
  /** Whether recording is to be turned on where it is off. */
  readonly turnsOn: boolean;
  readonly crossed: (crossings: readonly QuotaCrossing[]) => void;
  readonly changed: () => void;
}

export interface CollectorReport {
  readonly origin: string;
  /** `undefined` before it is known. */
  readonly how: Interface | 'subscription' | undefined;
  /** False: CLIProxyAPI does not record usage. */
  readonly isRecorded: boolean | undefined;
  readonly problem: { readonly reason: string; readonly remedy: string } | undefined;
  /** Since this process began. */
  readonly collected: number;
  readonly restored: number;
  readonly lost: number;
  /** When the last loss was found; ms since the epoch. */
  readonly lostAt: number | undefined;
  /** ms since the epoch. */
  readonly lastAt: number | undefined;
}

/** Something that is lost stays lost: it is told for a day. */
const LOSS_SHOWN_MS = 86_400_000;

export function isLossRecent(lostAt: number | undefined, now: number): boolean {
  return lostAt !== undefined && now - lostAt < LOSS_SHOWN_MS;
}

/** A queue keeps records for 60 s unless it is told otherwise. */
const DRAIN_MS = 5000;
/** With a subscription nothing enters the queue. */
const SUBSCRIBED_MS = 60_000;
const BATCH = 500;
/** What is told one by one goes into the ledger together. */
const GATHER_MS = 300;
const PROBE_AGAIN_MS = 5 * 60_000;
const UNREACHABLE_MS = 5000;
const CHANNEL = 'usage';

/** Brings what one CLIProxyAPI tells of usage into the ledger, in whatever way this version tells it. */
export class UsageCollector {
  readonly #parts: UsageCollectorParts;
  readonly #channel: Subscription;
  readonly #snapshots: SnapshotSync;
  readonly #losses: LossWatch;
  #how: Interface | undefined;
  #version: string | undefined;
  #probedAt = -Infinity;
  #isRecorded: boolean | undefined;
  /** Why nothing can be had, and why what was had cannot be kept. */
  #problem: CollectorReport['problem'];
  #keeping: CollectorReport['problem'];
  #collected = 0;
  #lastAt: number | undefined;
  #cancel: CancelTimer | undefined;
  #gathering: CancelTimer | undefined;
  #working = Promise.resolve();
  #isStopped = true;

  constructor(parts: UsageCollectorParts) {
    this.#parts = parts;
    this.#snapshots = new SnapshotSync({ ...parts, take: (events) => this.#take(events, true) });
    this.#losses = new LossWatch(parts);
    this.#channel = new Subscription({
      ...parts,
      channel: CHANNEL,
      live: () => {
        this.#soon(0);
      },
      message: (text) => {
        this.#hear(text);
      },
    });
  }

  get report(): CollectorReport {
    const { origin } = this.#parts;
    return {
      origin,
      how: this.#channel.state === 'live' ? 'subscription' : this.#how,
      isRecorded: this.#isRecorded,
      problem: this.#keeping ?? this.#problem,
      collected: this.#collected,
      restored: this.#snapshots.restored,
      lost: this.#losses.lost,
      lostAt: this.#losses.lostAt,
      lastAt: this.#lastAt,
    };
  }

  start(): void {
    this.#isStopped = false;
    this.#soon(0);
  }

  /** What is spooled stays for the next start. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancel?.();
    this.#gathering?.();
    this.#channel.stop();
    await this.#working;
  }

  /** Everything that can be had now. For a person who asks. */
  collectNow(): Promise<void> {
    return this.#inTurn(() => this.#round());
  }

  #soon(ms: number): void {
    this.#cancel?.();
    if (this.#isStopped) return;
    this.#cancel = this.#parts.clock.after(ms, () => {
      void this.#inTurn(() => this.#round()).then(() => {
        this.#soon(this.#pause());
      });
    });
  }

  #pause(): number {
    const { snapshotMs, recoveryMs } = this.#parts;
    if (this.#how === undefined) return UNREACHABLE_MS;
    if (this.#how === 'snapshot') return Math.min(snapshotMs, recoveryMs);
    return this.#channel.state === 'live' ? SUBSCRIBED_MS : DRAIN_MS;
  }

  async #round(): Promise<void> {
    await this.#tryEmpty();
    const probed = await this.#probe();
    if (probed === undefined) return;
    const attempts = probed === 'snapshot' ? undefined : await this.#losses.count();
    const refusal = probed === 'snapshot' ? await this.#snapshots.sync() : await this.#drain(probed);
    this.#note(refusal);
    if (refusal?.kind === 'no-such-call') this.#how = undefined;
    const { spool } = this.#parts;
    if (refusal !== undefined) return;
    if (probed === 'snapshot') this.#isKept();
    if (attempts === undefined || !spool.isEmpty) return;
    const isStarved = await this.#losses.compare(attempts, this.#isRecorded === true);
    this.#isKept();
    if (isStarved && this.#channel.state === 'stopped') this.#subscribe();
  }

  /**
   * While anybody subscribes, nothing enters the queue. The queue is better as long as there is something in it: what is told to a subscriber that dies in that
   * instant is gone, and what waits in the queue is not.
   */
  #subscribe(): void {
    this.#parts.log.warn('usage-starved', {
      origin: this.#parts.origin,
      remedy: 'Somebody else subscribes to usage, so nothing enters the queue; it is subscribed to from now on.',
    });
    this.#channel.start();
  }

  /** A version may be replaced by another one at any time. */
  async #probe(): Promise<Interface | undefined> {
    const { client, clock, turnsOn, log, origin } = this.#parts;
    const isSame = client.version === this.#version && clock.monotonic() - this.#probedAt < PROBE_AGAIN_MS;
    if (this.#how !== undefined && isSame) return this.#how;
    const found = await probeUsage(client);
    if (!found.ok) {
      this.#note(found.refusal);
      return undefined;
    }
    if (found.value !== this.#how) log.info('usage-collected', { origin, how: found.value, version: client.version });
    this.#how = found.value;
    this.#version = client.version;
    this.#probedAt = clock.monotonic();
    const recorded = await isRecorded(client);
    if (recorded.ok) this.#isRecorded = recorded.value || (turnsOn && (await turnOn(client)).ok);
    if (found.value === 'snapshot') this.#channel.stop();
    return this.#how;
  }

  /** Takes out of the queue whatever is in it. On disk before anything else. */
  async #drain(how: 'http-queue' | 'resp-queue'): Promise<Refusal | undefined> {
    const { client, spool } = this.#parts;
    while (!this.#isStopped) {
      if (!spool.hasRoom()) throw new Error('the disk of the state directory is full, so the queue is left alone');
      const popped = how === 'http-queue' ? await popOverHttp(client, BATCH) : await popOverResp(client, BATCH);
      if (!popped.ok) return popped.refusal;
      spool.add(popped.value);
      await this.#tryEmpty();
      if (popped.value.length < BATCH) return undefined;
    }
    return undefined;
  }

  /** The queue is emptied whether the ledger takes it now or not: it does not wait for longer than a minute there. */
  async #tryEmpty(): Promise<void> {
    try {
      await this.#empty();
    } catch (error) {
      this.#hasFailed(error);
    }
  }

  #hear(text: string): void {
    if (readRecord(text) === undefined) return;
    try {
      this.#parts.spool.add([text]);
    } catch (error) {
      this.#keeping = { reason: `usage cannot be written down (${messageOf(error)})`, remedy: 'Check the disk of the state directory.' };
      this.#parts.changed();
    }
    this.#gathering ??= this.#parts.clock.after(GATHER_MS, () => {
      this.#gathering = undefined;
      void this.#inTurn(() => this.#empty());
    });
  }

  /** From the spool into the ledger; what the ledger does not take now stays. */
  async #empty(): Promise<void> {
    await this.#parts.spool.drain(async (records) => {
      await this.#take(
        records.flatMap((record) => readRecord(record) ?? []),
        false,
      );
    });
  }

  /** The ledger answered. */
  #isKept(): void {
    if (this.#keeping === undefined) return;
    this.#keeping = undefined;
    this.#parts.changed();
  }

  async #take(events: readonly UsageEvent[], isRestorable: boolean): Promise<number> {
    const { ledger, origin, crossed, clock, changed } = this.#parts;
    const { added, crossings } = await ledger().take(origin, events, isRestorable);
    this.#isKept();
    if (added > 0) {
      this.#collected += added;
      this.#lastAt = clock.now();
      changed();
    }
    if (crossings.length > 0) crossed(crossings);
    return added;
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#working = this.#working.then(work).catch((error: unknown) => {
      this.#hasFailed(error);
    });
    return this.#working;
  }

  #hasFailed(error: unknown): void {
    this.#keeping = {
      reason: `usage cannot be kept (${messageOf(error)})`,
      remedy: 'What was read waits on the disk, and is taken when the database is back.',
    };
    this.#parts.changed();
  }

  #note(refusal: Refusal | undefined): void {
    const problem = refusal === undefined || refusal.kind === 'no-such-call' ? undefined : explain(refusal);
    if (problem?.reason === this.#problem?.reason) return;
    if (problem !== undefined && refusal?.kind !== 'unreachable')
      this.#parts.log.warn('usage-not-collected', { origin: this.#parts.origin, ...problem });
    this.#problem = problem;
    this.#parts.changed();
  }
}
