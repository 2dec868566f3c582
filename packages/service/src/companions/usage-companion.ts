import { hash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { join } from 'node:path';
import { backoffMs, isOutage, messageOf, TokenmirrorError, type CancelTimer, type Log, type TokenStore } from '@tokenmirror/core';
import type { CollectorReport, Ledger, Questions, UsageCollector, UsageLine } from '@tokenmirror/usage';
import type { Locations } from '@tokenmirror/workspace';
import type { Settings } from '../options/settings.js';
import { systemClock } from '../system-clock.js';
import type { KeyCompanion } from './key-companion.js';
import { backUpInto, problemOf, shownPlace } from './back-up.js';
import { openLedger, type OpenLedger } from './open-ledger.js';

export interface UsageCompanionParts {
  readonly settings: Settings;
  readonly locations: Locations;
  readonly log: Log;
  readonly replica: string;
  /** Whose registry lies in the same database, and whose targets are asked. */
  readonly keys: KeyCompanion;
  /** A store by its name or URL, not opened. */
  readonly place: (name: string) => Promise<TokenStore>;
  readonly changed: () => void;
}

/** How the last backup into a store went. */
export interface BackupReport {
  readonly store: string;
  /** ms since the epoch, of the last one that was written; `undefined` before the first. */
  readonly at: number | undefined;
  readonly problem: string | undefined;
}

export interface UsageReport {
  readonly problem: string | undefined;
  readonly collectors: readonly CollectorReport[];
  readonly backups: readonly BackupReport[];
  /** Everything that the ledger has, by model: for counters. */
  readonly totals: readonly UsageLine[];
}

const TIDY_MS = 3_600_000;
const TOTALS_MS = 30_000;
/** How long somebody who asks for a look waits for it. */
const ASKED_MS = 8000;
const SPOOL_NAME_LENGTH = 12;

/** Collects usage while the daemon runs. Whatever happens to it, everything else goes on. */
export class UsageCompanion {
  readonly #parts: UsageCompanionParts;
  readonly #stopping = new AbortController();
  /** By what they do. */
  readonly #timers = new Map<string, CancelTimer>();
  #open: OpenLedger | undefined;
  #collectors: readonly UsageCollector[] = [];
  #problem: string | undefined;
  /** Why nothing is collected. */
  #collecting: string | undefined;
  #asked: Promise<unknown> | undefined;
  #totals: readonly UsageLine[] = [];
  readonly #backups = new Map<string, BackupReport>();

  constructor(parts: UsageCompanionParts) {
    this.#parts = parts;
  }

  get report(): UsageReport {
    return {
      problem: this.#problem,
      collectors: this.#collectors.map(({ report }) => report),
      backups: [...this.#backups.values()],
      totals: this.#totals,
    };
  }

  /** @throws TokenmirrorError STORE_UNREACHABLE while it is not open */
  get questions(): Questions {
    return this.#opened.questions;
  }

  get #opened(): OpenLedger {
    if (this.#open !== undefined) return this.#open;
    throw new TokenmirrorError('STORE_UNREACHABLE', 'the ledger of usage is not open', 'It is tried again by itself; see the log.');
  }

  /** Reads everything that can be had now, for somebody who asks. */
  async collectNow(): Promise<readonly CollectorReport[]> {
    this.#asked ??= Promise.all(this.#collectors.map((collector) => collector.collectNow())).finally(() => (this.#asked = undefined));
    const tooLong = new AbortController();
    await Promise.race([this.#asked, delay(ASKED_MS, undefined, { signal: tooLong.signal }).catch(() => undefined)]);
    tooLong.abort();
    return this.report.collectors;
  }

  /** Opens the ledger once the registry is open, and begins. Never fails. */
  async start(): Promise<void> {
    const { settings, locations, keys, log, changed } = this.#parts;
    await this.#collect();
    const registry = await keys.opened;
    for (let attempt = 0; registry !== undefined && !this.#stopping.signal.aborted; attempt += 1) {
      try {
        this.#open = await openLedger(settings, locations, registry);
        break;
      } catch (error) {
        const remedy = error instanceof TokenmirrorError ? error.remedy : '';
        if (this.#problem !== messageOf(error)) log.warn('usage-unavailable', { reason: messageOf(error), remedy });
        this.#problem = messageOf(error);
        changed();
        if (!isOutage(error)) return;
        await delay(backoffMs(attempt, Math.random), undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      }
    }
    if (registry === undefined && !this.#stopping.signal.aborted) {
      this.#problem ??= 'the registry of keys, which lies beside it, cannot be opened';
      changed();
    }
    if (this.#open === undefined) return;
    this.#problem = this.#collecting;
    changed();
    const { ledger } = this.#open;
    this.#every('tidy', TIDY_MS, () => ledger.tidy());
    this.#every('totals', TOTALS_MS, () => this.#sumUp());
    this.#every('backup', settings['usage-backup-interval'], () => this.#backUp(ledger));
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const cancel of this.#timers.values()) cancel();
    await Promise.all(this.#collectors.map((collector) => collector.stop()));
    await this.#open?.ledger.database.close();
  }

  /** From the first moment, for a queue waits for a minute only: what is read before the ledger is open waits on the disk. */
  async #collect(): Promise<void> {
    try {
      this.#collectors = await this.#makeCollectors();
    } catch (error) {
      this.#collecting = messageOf(error);
      this.#problem = this.#collecting;
      this.#parts.log.error('usage-unavailable', { reason: messageOf(error), remedy: 'Check the rights of the state directory.' });
      this.#parts.changed();
    }
    if (this.#stopping.signal.aborted) return;
    for (const collector of this.#collectors) collector.start();
  }

  async #makeCollectors(): Promise<UsageCollector[]> {
    const { Spool, UsageCollector: Collector } = await import('@tokenmirror/usage');
    const { settings, locations, keys, replica, log, changed } = this.#parts;
    return keys.targets.map(({ name, client }) => {
      const spool = new Spool(join(locations.stateDir, 'usage', hash('sha256', name).slice(0, SPOOL_NAME_LENGTH)));
      return new Collector({
        origin: name === 'beside' ? replica : name,
        client,
        ledger: () => this.#opened.ledger,
        spool,
        clock: systemClock,
        random: Math.random,
        log,
        snapshotMs: settings['usage-interval'],
        recoveryMs: settings['usage-recovery-interval'],
        turnsOn: settings['usage-enable'],
        crossed: (crossings) => {
          for (const { record, part } of crossings) log.warn('quota-reached', { key: record.mask, owner: record.owner, part });
          keys.poke();
        },
        changed,
      });
    });
  }

  /** Now and then, failures included: the next one may succeed. */
  #every(name: string, ms: number, work: () => Promise<void>): void {
    const next = (): void => {
      if (this.#stopping.signal.aborted) return;
      void work()
        .catch(() => undefined)
        .then(() => {
          if (!this.#stopping.signal.aborted) this.#timers.set(name, systemClock.after(ms, next));
        });
    };
    next();
  }

  async #backUp(ledger: Ledger): Promise<void> {
    const { settings, place, replica, log, changed } = this.#parts;
    for (const name of settings['usage-backup'] ?? []) {
      const before = this.#backups.get(name);
      const outcome = await backUpInto(() => place(name), ledger, replica);
      const problem = problemOf(outcome);
      const at = outcome.status === 'written' ? systemClock.now() : before?.at;
      this.#backups.set(name, { store: shownPlace(name), at, problem });
      if (problem !== undefined && problem !== before?.problem)
        log.warn('usage-backup-failed', { store: shownPlace(name), reason: problem });
      changed();
    }
  }

  async #sumUp(): Promise<void> {
    const lines = await this.#open?.questions.top('model', 0, 100);
    this.#totals = lines ?? [];
  }
}
