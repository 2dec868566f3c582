import { z } from 'zod';
import { TokenmirrorError } from '@tokenmirror/core';
import type { ApiKey } from './api-key.js';
import { describeQuota, parseQuota } from './quota.js';
import type { ImportedKey } from './key-registry.js';

const EXPORT_VERSION = 1;
/** A number from this on is in ms, below it in seconds. */
const IN_MS = 1e11;
/** In ms; later ones no date can hold. */
const LAST_INSTANT = 8.64e15;

const EXPORT = z.object({
  version: z.literal(EXPORT_VERSION),
  keys: z.array(
    z.object({
      key: z.string().optional(),
      owner_email: z.string().default(''),
      status: z.enum(['active', 'disabled']).default('active'),
      expires_at: z.string().nullable().default(null),
      note: z.string().default(''),
      labels: z.array(z.string()).default([]),
      quota: z.string().nullable().default(null),
    }),
  ),
});

const UPSTREAM_ROW = z.object({
  api_key: z.string(),
  status: z.string().nullish(),
  expires_at: z.union([z.string(), z.number()]).nullish(),
  owner_email: z.string().nullish(),
  note: z.string().nullish(),
});

/** What `readExport` understands. With the keys in clear it can be imported again; without them it is a list for people. */
export function exportText(keys: readonly (ApiKey & { readonly key?: string | undefined })[]): string {
  const rows = keys.map(({ key, mask, owner, status, expiresAt, note, labels, quota }) => ({
    ...(key === undefined ? { mask } : { key }),
    owner_email: owner,
    status,
    expires_at: expiresAt === null ? null : new Date(expiresAt).toISOString(),
    note,
    labels,
    quota: quota === null ? null : describeQuota(quota),
  }));
  return `${JSON.stringify({ version: EXPORT_VERSION, keys: rows }, null, 2)}\n`;
}

/** @throws TokenmirrorError KEY_INVALID, without anything of the text */
export function readExport(text: string): ImportedKey[] {
  const reading = EXPORT.safeParse(jsonIn(text));
  if (!reading.success)
    throw new TokenmirrorError(
      'KEY_INVALID',
      'the file is no export of API keys',
      'Give what `tokenmirror keys export --with-keys` wrote, or the database of cliproxy-access-manager.',
    );
  const { keys } = reading.data;
  if (keys.length > 0 && keys.every(({ key }) => key === undefined))
    throw new TokenmirrorError('KEY_INVALID', 'the export holds no keys in clear', 'Write it with `tokenmirror keys export --with-keys`.');
  return keys.flatMap(({ key, owner_email: owner, status, expires_at: expires, note, labels, quota }): ImportedKey[] => {
    if (key === undefined) return [];
    return [{ key, owner, status, expiresAt: instant(expires), note, labels, quota: quota === null ? null : parseQuota(quota) }];
  });
}

/** The keys in an SQLite file of cliproxy-access-manager, which is not changed. `undefined` for a file that is no database. @throws TokenmirrorError KEY_INVALID */
export async function readAccessManager(file: string): Promise<ImportedKey[] | undefined> {
  let rows: Record<string, unknown>[] | undefined;
  try {
    const { readForeignTable } = await import('@tokenmirror/database');
    rows = await readForeignTable(file, 'api_keys');
  } catch (cause) {
    throw new TokenmirrorError(
      'KEY_INVALID',
      `${file} has no table api_keys`,
      'Name the database of cliproxy-access-manager, often data/apim.db.',
      {
        cause,
      },
    );
  }
  return rows?.flatMap((row): ImportedKey[] => {
    const reading = UPSTREAM_ROW.safeParse(row);
    if (!reading.success) return [];
    const { api_key: key, status, expires_at: expires, owner_email: owner, note } = reading.data;
    const isActive = status == null || status === '' || status === 'active';
    return [{ key, owner: owner ?? '', status: isActive ? 'active' : 'disabled', expiresAt: instant(expires ?? null), note: note ?? '' }];
  });
}

/** As its driver writes an instant: RFC 3339, or `2026-03-01 00:00:00 +0000 UTC`; without a zone it is UTC. @throws TokenmirrorError KEY_INVALID */
function instant(written: string | number | null): number | null {
  if (written === null || written === '') return null;
  if (typeof written === 'number') return Math.min(written < IN_MS ? written * 1000 : written, LAST_INSTANT);
  const [, day, time = '00:00:00', zone = 'Z'] =
    /^(\d{4}-\d{2}-\d{2})(?:[ T](\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?))?\s*(Z|[+-]\d{2}:?\d{2})?/.exec(written) ?? [];
  const at = Date.parse(`${String(day)}T${time}${zone.replace(/^([+-]\d{2})(\d{2})$/, '$1:$2')}`);
  if (Number.isFinite(at)) return at;
  throw new TokenmirrorError('KEY_INVALID', 'an expiry in the file is not understood', 'Write it as 2026-03-01T12:00:00Z.');
}

function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
