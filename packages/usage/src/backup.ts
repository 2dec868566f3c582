import { createHash } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import { z } from 'zod';
import { recordKey, readRecordKey, type Clock, type RecordKey, type TokenStore } from '@tokenmirror/core';
import { byDay, requestsOf, type Ledger, type PeriodRow, type Summary } from './ledger.js';
import { COUNT, TOKEN_COUNTS } from './schema.js';

const FORMAT = 1;
const COLLECTION = 'usage';
const SUMMARY = z.object({
  days: z.array(
    z.object({
      start: z.number(),
      origin: z.string(),
      key_hash: z.string(),
      model: z.string(),
      provider: z.string(),
      account_hash: z.string(),
      requests: COUNT,
      failed: COUNT,
      ...TOKEN_COUNTS,
    }),
  ),
  names: z.array(z.object({ hash: z.string(), mask: z.string() })),
});
const FILE = z.object({ format: z.literal(FORMAT), at: z.number(), digest: z.string(), data: z.string() });

/** The sums by day of one ledger, as they stand in a store. */
export interface Backup extends Summary {
  /** ms since the epoch. */
  readonly at: number;
}

/** How writing one went. `missing`: requests that it knew of and the ledger does not; they stay in it. */
export type BackupOutcome =
  | { readonly status: 'written'; readonly requests: number; readonly missing: number }
  | { readonly status: 'refused'; readonly reason: string };

export interface UsageBackupParts {
  readonly ledger: Ledger;
  readonly clock: Clock;
  /** Whose ledger it is: backups of several lie side by side. */
  readonly name: string;
}

const ATTEMPTS = 3;

/** Keeps the sums by day in a store: one for each of the last seven days and each of the last twelve months, in places that are used again. */
export class UsageBackup {
  readonly #parts: UsageBackupParts;

  constructor(parts: UsageBackupParts) {
    this.#parts = parts;
  }

  /** Into a store that is open. @throws TokenmirrorError STORE_UNREACHABLE */
  async write(store: TokenStore): Promise<BackupOutcome> {
    const { ledger, clock, name } = this.#parts;
    const backup: Backup = { at: clock.now(), ...(await ledger.summary()) };
    let missing = 0;
    for (const slot of slotsOf(backup.at)) {
      const written = await this.#merge(store, recordKey(COLLECTION, `${name}-${slot}`), backup);
      if (typeof written === 'string') return { status: 'refused', reason: written };
      missing = Math.max(missing, requestsIn(written) - requestsIn(backup));
    }
    return { status: 'written', requests: requestsIn(backup), missing };
  }

  /** Returns what stands there now, or why it could not be written. */
  async #merge(store: TokenStore, key: RecordKey, backup: Backup): Promise<Backup | string> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const entry = (await store.read([key])).get(key);
      const before = entry?.state === 'live' ? decodeBackup(entry.content) : undefined;
      const merged = before === undefined ? backup : mergeBackups(backup, before);
      const text = encodeBackup(merged);
      if (requestsIn(decodeBackup(text)) !== requestsIn(merged)) return 'what was written down does not read as what it was';
      const change = { key, expected: entry?.revision ?? ('absent' as const), content: text, lineage: [] };
      const [outcome] = await store.write([change], this.#parts.name);
      if (outcome?.status === 'written') return merged;
      if (outcome?.status === 'unacceptable') return outcome.reason;
    }
    return 'somebody else writes it at the same time';
  }
}

/** What the backups of each ledger in a store that is open know together, by the ledger's name. */
export async function readBackups(store: TokenStore): Promise<ReadonlyMap<string, Backup>> {
  const { entries } = await store.list();
  const keys = entries.flatMap(({ name, state }): RecordKey[] => {
    const key = readRecordKey(name);
    return key?.startsWith(`${COLLECTION}/`) === true && state === 'live' ? [key] : [];
  });
  const backups = new Map<string, Backup>();
  for (const [key, entry] of keys.length === 0 ? [] : await store.read(keys)) {
    const backup = entry.state === 'live' ? decodeBackup(entry.content) : undefined;
    if (backup === undefined) continue;
    const name = key.slice(COLLECTION.length + 1).replace(/-(?:weekday|month)-\d+$/, '');
    const same = backups.get(name) ?? backup;
    backups.set(name, backup.at > same.at ? mergeBackups(backup, same) : mergeBackups(same, backup));
  }
  return backups;
}

/** Of each day of each CLIProxyAPI the one that knows more requests. */
export function mergeBackups(newer: Backup, older: Backup): Backup {
  const days = new Map<string, readonly PeriodRow[]>();
  for (const backup of [newer, older])
    for (const [day, rows] of byDay(backup.days)) if (requestsOf(rows) > requestsOf(days.get(day) ?? [])) days.set(day, rows);
  const names = new Map([...older.names, ...newer.names].map((name) => [name.hash, name]));
  return { at: newer.at, days: [...days.values()].flat().sort((a, b) => a.start - b.start), names: [...names.values()] };
}

export function encodeBackup({ at, days, names }: Backup): string {
  const text = JSON.stringify({ days, names });
  return JSON.stringify({ format: FORMAT, at, digest: digest(text), data: gzipSync(text).toString('base64') });
}

/** `undefined` for what is damaged, or no backup. */
export function decodeBackup(content: string): Backup | undefined {
  try {
    const { at, digest: expected, data } = FILE.parse(JSON.parse(content));
    const text = gunzipSync(Buffer.from(data, 'base64')).toString('utf8');
    return digest(text) === expected ? { at, ...SUMMARY.parse(JSON.parse(text)) } : undefined;
  } catch {
    return undefined;
  }
}

function slotsOf(at: number): readonly string[] {
  const date = new Date(at);
  return [`weekday-${String(date.getUTCDay())}`, `month-${String(date.getUTCMonth() + 1)}`];
}

function requestsIn(backup: Backup | undefined): number {
  return requestsOf(backup?.days ?? []);
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
