import { createHash } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';
import { z } from 'zod';
import { recordKey, readRecordKey, type Clock, type RecordKey, type TokenStore } from '@tokenmirror/core';
import type { Ledger, Summary } from './ledger.js';

const FORMAT = 1;
const COLLECTION = 'usage';
const COUNT = z.number().int().nonnegative();
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
      input: COUNT,
      output: COUNT,
      reasoning: COUNT,
      cached: COUNT,
      cache_creation: COUNT,
      total: COUNT,
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

/** How writing one went. `poorer`: what is there knows of more than the ledger, so it was not replaced. */
export type BackupOutcome =
  | { readonly status: 'written'; readonly requests: number }
  | { readonly status: 'poorer'; readonly requests: number; readonly before: number }
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
    const text = encodeBackup(backup);
    const requests = requestsIn(decodeBackup(text));
    if (requests !== requestsIn(backup)) return { status: 'refused', reason: 'what was written down does not read as what it was' };
    for (const slot of slotsOf(backup.at)) {
      const outcome = await this.#replace(store, recordKey(COLLECTION, `${name}-${slot}`), text, backup);
      if (outcome !== undefined) return outcome;
    }
    return { status: 'written', requests };
  }

  async #replace(store: TokenStore, key: RecordKey, text: string, backup: Backup): Promise<BackupOutcome | undefined> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const entry = (await store.read([key])).get(key);
      const before = entry?.state === 'live' ? decodeBackup(entry.content) : undefined;
      const [known, now] = [requestsIn(before), requestsIn(since(backup, before))];
      if (known > now) return { status: 'poorer', requests: now, before: known };
      const change = { key, expected: entry?.revision ?? ('absent' as const), content: text, lineage: [] };
      const [outcome] = await store.write([change], this.#parts.name);
      if (outcome?.status === 'written') return undefined;
      if (outcome?.status === 'unacceptable') return { status: 'refused', reason: outcome.reason };
    }
    return { status: 'refused', reason: 'somebody else writes it at the same time' };
  }
}

/** The newest backup of each ledger in a store that is open. */
export async function readBackups(store: TokenStore): Promise<readonly Backup[]> {
  const { entries } = await store.list();
  const keys = entries.flatMap(({ name, state }): RecordKey[] => {
    const key = readRecordKey(name);
    return key?.startsWith(`${COLLECTION}/`) === true && state === 'live' ? [key] : [];
  });
  const newest = new Map<string, Backup>();
  for (const [key, entry] of keys.length === 0 ? [] : await store.read(keys)) {
    const backup = entry.state === 'live' ? decodeBackup(entry.content) : undefined;
    const name = key.replace(/-(?:weekday|month)-\d+$/, '');
    if (backup !== undefined && backup.at > (newest.get(name)?.at ?? -1)) newest.set(name, backup);
  }
  return [...newest.values()];
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

/** The part of a backup that another one could know of, too: later days are no reason to replace it. */
function since(backup: Backup, before: Backup | undefined): Backup {
  if (before === undefined) return backup;
  const last = before.days.reduce((latest, { start }) => Math.max(latest, start), -Infinity);
  return { ...backup, days: backup.days.filter(({ start }) => start <= last) };
}

function requestsIn(backup: Backup | undefined): number {
  return (backup?.days ?? []).reduce((sum, { requests }) => sum + requests, 0);
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
