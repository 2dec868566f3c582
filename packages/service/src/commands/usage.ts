import { existsSync, readFileSync } from 'node:fs';
import { messageOf, TokenmirrorError } from '@tokenmirror/core';
import { parseSince } from '@tokenmirror/key-expiry';
import {
  exportLedger,
  readBackups,
  readLedgerExport,
  readSnapshot,
  readUsageFile,
  type BackupOutcome,
  type Loss,
  type Questions,
  type UsageEvent,
  type UsageFormat,
} from '@tokenmirror/usage';
import { backUpInto, shownPlace } from '../companions/back-up.js';
import { openLedger, type OpenLedger } from '../companions/open-ledger.js';
import { openKeyRegistry } from '../companions/open-registry.js';
import { readReport } from '../daemon/status-file.js';
import type { UsageReport } from '../companions/usage-companion.js';
import type { Settings } from '../options/settings.js';
import type { ReplicaFactory } from '../replica-factory.js';
import { systemClock } from '../system-clock.js';

export interface UsageStatus {
  /** What the daemon said last; absent where none collected. */
  readonly daemon: UsageReport | undefined;
  readonly requests: number;
  readonly tokens: number;
  /** What was found to be missing, newest first. */
  readonly losses: readonly Loss[];
}

export interface UsageImport {
  readonly read: number;
  /** How many of them were new. */
  readonly added: number;
}

const AT_ONCE = 5000;
const DAY_MS = 86_400_000;

/** The ledger of usage, as a command works on it. */
export class UsageCommand {
  readonly #open: OpenLedger;
  readonly #replicas: ReplicaFactory;

  private constructor(open: OpenLedger, replicas: ReplicaFactory) {
    this.#open = open;
    this.#replicas = replicas;
  }

  /** Opens the ledger for one piece of work. @throws TokenmirrorError STORE_UNREACHABLE, STORE_DENIED, and those of the work */
  static async use<T>(replicas: ReplicaFactory, settings: Settings, work: (usage: UsageCommand) => Promise<T>): Promise<T> {
    const locations = replicas.locations();
    const registry = await openKeyRegistry(settings, locations);
    try {
      const open = await openLedger(settings, locations, registry);
      try {
        return await work(new UsageCommand(open, replicas));
      } finally {
        await open.ledger.database.close();
      }
    } finally {
      await registry.close();
    }
  }

  get questions(): Questions {
    return this.#open.questions;
  }

  /** @throws TokenmirrorError KEY_INVALID */
  since(text: string): number {
    return parseSince(text, systemClock.now());
  }

  async status(): Promise<UsageStatus> {
    const { requests, total } = await this.questions.total(0);
    const report = await readReport(this.#replicas.locations().stateDir);
    return { daemon: report?.usage, requests, tokens: total, losses: await this.#open.ledger.losses() };
  }

  /** Into every store that the settings name, now. */
  async backUp(settings: Settings): Promise<readonly (BackupOutcome & { readonly store: string })[]> {
    const name = this.#replicas.workspace().replicaId ?? 'none';
    const outcomes: (BackupOutcome & { readonly store: string })[] = [];
    for (const store of settings['usage-backup'] ?? [])
      outcomes.push({ ...(await backUpInto(() => this.#replicas.place(store), this.#open.ledger, name)), store: shownPlace(store) });
    return outcomes;
  }

  /** The sums of each day of which its backup in a store knows more than the ledger, and of days of which only another one's knows. Returns how many requests came by it. @throws TokenmirrorError DOCUMENT_UNKNOWN */
  async restore(from: string): Promise<number> {
    const store = await this.#replicas.place(from);
    try {
      await store.open('look');
      const backups = await readBackups(store);
      if (backups.size === 0)
        throw new TokenmirrorError(
          'DOCUMENT_UNKNOWN',
          `${store.description} holds no backup of usage`,
          'Name the store that `usage-backup` names.',
        );
      const ours = this.#replicas.workspace().replicaId;
      const { ledger } = this.#open;
      let restored = 0;
      for (const [name, backup] of backups) if (name === ours) restored += await ledger.restore(backup, 'more');
      for (const [name, backup] of backups) if (name !== ours) restored += await ledger.restore(backup);
      return restored;
    } finally {
      await store.close();
    }
  }

  export(format: UsageFormat, since: number): AsyncGenerator<string> {
    return exportLedger(this.#open.ledger, format, since);
  }

  /**
   * Our own export (JSON Lines, CSV), an export of CLIProxyAPI, records of its queue, or the database of cliproxy-access-manager. What is known already is not counted
   * again. @throws TokenmirrorError DOCUMENT_REFUSED
   */
  async import(file: string, origin: string, progress: (done: number, all: number) => void): Promise<UsageImport> {
    const { ledger } = this.#open;
    if (!existsSync(file)) throw refused(`there is no file ${file}`, 'Check its path.');
    const theirs = await eventsOfAccessManager(file);
    const ours = theirs === undefined ? readLedgerExport(textOf(file)) : undefined;
    if (ours === undefined) {
      const events = theirs ?? readEvents(file);
      return inBatches(events, progress, async (batch) => (await ledger.take(origin, batch, true)).added);
    }
    const known = { read: 0, added: 0 };
    for (const each of new Set(ours.map((event) => event.origin))) {
      const events = ours.filter((event) => event.origin === each);
      const before = known.read;
      const done = await inBatches(
        events,
        (count) => {
          progress(before + count, ours.length);
        },
        (batch) => ledger.takeBack(each, batch),
      );
      known.read += done.read;
      known.added += done.added;
    }
    return known;
  }
}

/** In the order of time, whole days together. */
async function inBatches<Event extends { readonly at: number }>(
  unsorted: readonly Event[],
  progress: (done: number, all: number) => void,
  take: (batch: readonly Event[]) => Promise<number>,
): Promise<UsageImport> {
  const events = [...unsorted].sort((a, b) => a.at - b.at);
  let added = 0;
  for (let from = 0; from < events.length;) {
    const to = wholeDays(events, from);
    added += await take(events.slice(from, to));
    progress(to, events.length);
    from = to;
  }
  return { read: events.length, added };
}

/** Where a batch ends: with a day, for a day is counted as a whole. */
function wholeDays(events: readonly { readonly at: number }[], from: number): number {
  const dayOf = (n: number): number => Math.floor((events[n]?.at ?? 0) / DAY_MS);
  let to = Math.min(events.length, from + AT_ONCE);
  while (to < events.length && dayOf(to) === dayOf(to - 1)) to += 1;
  return to;
}

function readEvents(file: string): readonly UsageEvent[] {
  const events = readUsageFile(textOf(file));
  if (events !== undefined) return events;
  throw refused(
    `${file} holds no usage`,
    'Give an export of `tokenmirror usage export` (jsonl, csv), one of CLIProxyAPI (usage-export.json), records one a line, or the database of cliproxy-access-manager.',
  );
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw refused(`${file} cannot be read (${messageOf(cause)})`, 'Check its rights.');
  }
}

/** Every snapshot that it kept: each has what the ones before it had, but for what a restart lost. */
async function eventsOfAccessManager(file: string): Promise<UsageEvent[] | undefined> {
  const { readForeignTable } = await import('@tokenmirror/database');
  const rows = await readForeignTable(file, 'usage_snapshots').catch((cause: unknown) => {
    throw refused(
      `${file} has no table usage_snapshots (${messageOf(cause)})`,
      'Name the database of cliproxy-access-manager, often data/apim.db.',
    );
  });
  const events = new Map<string, UsageEvent>();
  for (const { payload_json: payload } of rows ?? [])
    for (const event of readSnapshot(snapshotIn(String(payload))) ?? []) events.set(event.id, event);
  return rows === undefined ? undefined : [...events.values()];
}

/** The export as it came, or the `usage` in it alone. */
function snapshotIn(text: string): unknown {
  try {
    const value = JSON.parse(text) as { usage?: unknown };
    return value.usage === undefined ? { usage: value } : value;
  } catch {
    return undefined;
  }
}

function refused(message: string, remedy: string): TokenmirrorError {
  return new TokenmirrorError('DOCUMENT_REFUSED', message, remedy);
}
