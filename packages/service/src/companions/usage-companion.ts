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

/** Collects usage while the daemon runs. Whatever happens to it, everything else goes on. */
export class UsageCompanion {
  readonly #parts: UsageCompanionParts;
  readonly #stopping = new AbortController();
  /** By how often they go off. */
  readonly #timers = new Map<number, CancelTimer>();
  #open: OpenLedger | undefined;
  #collectors: readonly UsageCollector[] = [];
  #problem: string | undefined;
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
    if (this.#open !== undefined) return this.#open.questions;
    throw new TokenmirrorError('STORE_UNREACHABLE', 'the ledger of usage is not open', 'It is tried again by itself; see the log.');
  }

  /** Opens the ledger once the registry is open, and begins. Never fails. */
  async start(): Promise<void> {
    const { settings, locations, keys, log, changed } = this.#parts;
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
    if (this.#open === undefined) return;
    this.#problem = undefined;
    try {
      await this.#begin(this.#open);
    } catch (error) {
      this.#problem = messageOf(error);
      log.error('usage-unavailable', { reason: messageOf(error), remedy: 'Check the rights of the state directory.' });
      changed();
    }
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    for (const cancel of this.#timers.values()) cancel();
    await Promise.all(this.#collectors.map((collector) => collector.stop()));
    await this.#open?.ledger.database.close();
  }

  async #begin({ ledger }: OpenLedger): Promise<void> {
    const { Spool, UsageCollector: Collector } = await import('@tokenmirror/usage');
    const { settings, locations, keys, replica, log, changed } = this.#parts;
    this.#collectors = keys.targets.map(({ name, client }, n) => {
      const spool = new Spool(join(locations.stateDir, 'usage', String(n)));
      return new Collector({
        origin: name === 'beside' ? replica : name,
        client,
        ledger,
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
    if (this.#stopping.signal.aborted) return;
    for (const collector of this.#collectors) collector.start();
    this.#every(TIDY_MS, () => ledger.tidy());
    this.#every(TOTALS_MS, () => this.#sumUp());
    this.#every(settings['usage-backup-interval'], () => this.#backUp(ledger));
  }

  /** Now and then, failures included: the next one may succeed. */
  #every(ms: number, work: () => Promise<void>): void {
    const next = (): void => {
      if (this.#stopping.signal.aborted) return;
      void work()
        .catch(() => undefined)
        .then(() => {
          if (!this.#stopping.signal.aborted) this.#timers.set(ms, systemClock.after(ms, next));
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
