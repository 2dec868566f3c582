import type { ManagementClient } from '@tokenmirror/cliproxy-client';
import type { Clock, Log } from '@tokenmirror/core';
import type { Ledger } from './ledger.js';
import { countAttempts } from './usage-calls.js';

export interface LossWatchParts {
  readonly origin: string;
  readonly client: ManagementClient;
  readonly ledger: () => Ledger;
  readonly clock: Clock;
  readonly log: Log;
}

/** How often the counters are looked at: each look costs CLIProxyAPI 60 ms of computing. */
const EVERY_MS = 60_000;

/** Compares what the ledger counts with what the credentials counted: what a stranger took out of the queue, or nobody read in time, was lost. */
export class LossWatch {
  readonly #parts: LossWatchParts;
  #before: { readonly attempts: number; readonly counted: number } | undefined;
  #missing = 0;
  #lookedAt = -Infinity;
  #lost = 0;
  #lostAt: number | undefined;

  constructor(parts: LossWatchParts) {
    this.#parts = parts;
  }

  /** Since this process began. */
  get lost(): number {
    return this.#lost;
  }

  /** When the last loss was found; ms since the epoch. */
  get lostAt(): number | undefined {
    return this.#lostAt;
  }

  /** What the credentials counted, now and then: to be asked before the queue is read, so that everything counted could have been told. */
  async count(): Promise<number | undefined> {
    const { clock, client } = this.#parts;
    if (clock.monotonic() - this.#lookedAt < EVERY_MS) return undefined;
    this.#lookedAt = clock.monotonic();
    const counted = await countAttempts(client);
    return counted.ok ? counted.value : undefined;
  }

  /** To be called when everything that there was had been collected. Returns whether nothing came at all although there were requests. */
  async compare(attempts: number, isRecorded: boolean): Promise<boolean> {
    const { ledger, origin, clock } = this.#parts;
    const counted = await ledger().counted(origin);
    const before = this.#before;
    if (before === undefined || attempts < before.attempts || !isRecorded) {
      await this.#begin(counted, 0);
      return false;
    }
    const missing = attempts - before.attempts - (counted - before.counted);
    if (missing < 0) await this.#begin(counted, 0);
    // What is under way is counted before it is told: only what is missing twice is lost.
    const lost = Math.min(missing, this.#missing);
    this.#missing = Math.max(0, missing);
    if (lost <= 0) return false;
    const isStarved = counted === before.counted;
    await this.#begin(counted, missing - lost);
    this.#lost += lost;
    this.#lostAt = clock.now();
    await this.#tell(lost);
    return isStarved;
  }

  /** What is counted from here on. The attempts are looked at after the ledger, so that none is missed that the ledger has already. */
  async #begin(counted: number, missing: number): Promise<void> {
    const attempts = await countAttempts(this.#parts.client);
    this.#before = attempts.ok && attempts.value !== undefined ? { attempts: attempts.value - missing, counted } : undefined;
    this.#missing = missing;
  }

  async #tell(lost: number): Promise<void> {
    const { ledger, origin, log } = this.#parts;
    const detail = `${String(lost)} requests were counted by the credentials and never told: another reader took them, or nobody read them in time`;
    log.warn('usage-lost', {
      origin,
      lost,
      remedy: 'Let nobody else read the usage queue or subscribe to it, and keep the daemon running.',
    });
    await ledger().noteLoss({ origin, kind: 'lost', detail });
  }
}
