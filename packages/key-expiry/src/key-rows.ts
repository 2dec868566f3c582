import { TokenmirrorError } from '@tokenmirror/core';
import { isKeyId, maskOf, stateOf, type ApiKey } from './api-key.js';
import { windowEnd, windowStart, type Quota } from './quota.js';
import type { KeyRow, Reader } from './schema.js';

/** By id, by the hash of the key, or by a mask that only one key has. @throws TokenmirrorError KEY_UNKNOWN */
export async function findRow(db: Reader, reference: string, hashOf: (key: string) => string): Promise<KeyRow> {
  const written = reference.trim();
  const all = db.selectFrom('tokenmirror_keys').selectAll().where('status', '<>', 'deleted');
  const found =
    (await all.where('id', '=', written).executeTakeFirst()) ??
    (await all.where('hash', '=', hashOf(written)).executeTakeFirst()) ??
    (await onlyOne(all.where('mask', '=', written).limit(2).execute()));
  if (found !== undefined) return found;
  throw new TokenmirrorError(
    'KEY_UNKNOWN',
    `no API key is registered as ${isKeyId(written) ? written : maskOf(written)}`,
    'See `tokenmirror keys list` for the ids.',
  );
}

/** A row as what is known of the key at an instant. */
export async function recordOf(db: Reader, row: KeyRow, now: number): Promise<ApiKey> {
  const [record] = await recordsOf(db, [row], now);
  if (record === undefined) throw new Error('a row without a record');
  return record;
}

export async function recordsOf(db: Reader, rows: readonly KeyRow[], now: number): Promise<ApiKey[]> {
  const ids = rows.filter(({ quota }) => quota !== null).map(({ id }) => id);
  const uses = ids.length === 0 ? [] : await db.selectFrom('tokenmirror_key_use').selectAll().where('key_id', 'in', ids).execute();
  const useOf = new Map(uses.map((use) => [`${use.key_id} ${use.period} ${String(use.window_start)}`, use]));
  return rows.map((row): ApiKey => {
    const quota = row.quota === null ? null : (JSON.parse(row.quota) as Quota);
    const use = quota === null ? undefined : useOf.get(`${row.id} ${quota.per} ${String(windowStart(quota.per, now))}`);
    return {
      id: row.id,
      mask: row.mask,
      owner: row.owner,
      status: row.status as ApiKey['status'],
      expiresAt: row.expires_at,
      note: row.note,
      labels: JSON.parse(row.labels) as string[],
      quota,
      createdAt: row.created_at,
      createdBy: row.created_by,
      lastUsedAt: row.last_used_at,
      replacedBy: row.replaced_by,
      used: { requests: use?.requests ?? 0, tokens: use?.tokens ?? 0 },
    };
  });
}

/** When a key becomes valid, or is not any more, by itself. */
export function changeOf(record: ApiKey, now: number): number | undefined {
  const state = stateOf(record, now);
  if (state === 'valid') return record.expiresAt ?? undefined;
  if (state !== 'exhausted' || record.quota === null) return undefined;
  const end = windowEnd(record.quota.per, now);
  return end === undefined ? (record.expiresAt ?? undefined) : Math.min(end, record.expiresAt ?? Infinity);
}

async function onlyOne<T>(found: Promise<readonly T[]>): Promise<T | undefined> {
  const rows = await found;
  return rows.length === 1 ? rows[0] : undefined;
}
