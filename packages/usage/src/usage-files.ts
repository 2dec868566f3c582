import { z } from 'zod';
import type { Ledger, MaskedEvent } from './ledger.js';
import { COUNT, TOKEN_COUNTS } from './schema.js';
import { jsonIn, readRecord, readSnapshot, snapshotOf, type UsageEvent } from './usage-event.js';

export type UsageFormat = 'v1' | 'csv' | 'jsonl';

const COLUMNS = [
  'timestamp',
  'origin',
  'key',
  'model',
  'provider',
  'account',
  'endpoint',
  'failed',
  'input',
  'output',
  'reasoning',
  'cached',
  'cache_creation',
  'total',
  'latency_ms',
  'auth_index',
  'id',
  'key_hash',
  'account_hash',
] as const;
const EXPORTED = z.object({
  timestamp: z.string().refine((text) => Number.isFinite(Date.parse(text))),
  origin: z.string(),
  key: z.string(),
  model: z.string(),
  provider: z.string(),
  account: z.string(),
  endpoint: z.string(),
  failed: COUNT.max(1),
  ...TOKEN_COUNTS,
  latency_ms: COUNT,
  auth_index: z.string(),
  id: z.string().min(1),
  key_hash: z.string(),
  account_hash: z.string(),
});
/** Rows that are in memory at one time. */
const PAGE = 5000;

/**
 * Every event since an instant, piece by piece. `v1` is upstream's own export, with names in clear where they were kept (the snapshot era) and masks elsewhere;
 * `csv` and `jsonl` have masks only.
 */
export async function* exportLedger(ledger: Ledger, format: UsageFormat, since: number): AsyncGenerator<string> {
  if (format === 'v1') {
    const events: UsageEvent[] = [];
    for await (const page of ledger.pages(since, PAGE)) events.push(...page.map(({ event }) => event));
    yield `${JSON.stringify({ exported_at: new Date().toISOString(), ...(snapshotOf(events) as object) })}\n`;
    return;
  }
  if (format === 'csv') yield `${COLUMNS.join(',')}\n`;
  for await (const page of ledger.pages(since, PAGE)) {
    const rows = page.map(({ row }) => COLUMNS.map((name) => row[name]));
    yield rows
      .map((values) =>
        format === 'csv'
          ? `${values.map(cell).join(',')}\n`
          : `${JSON.stringify(Object.fromEntries(COLUMNS.map((name, n) => [name, values[n]])))}\n`,
      )
      .join('');
  }
}

/** What a file holds: an export of upstream (`usage-export.json`), or records of its queue, one a line. `undefined` for neither. */
export function readUsageFile(text: string): readonly UsageEvent[] | undefined {
  const snapshot = readSnapshot(jsonIn(text));
  if (snapshot !== undefined) return snapshot;
  const events = text.split('\n').flatMap((line) => readRecord(line) ?? []);
  return events.length === 0 ? undefined : events;
}

/** What `exportLedger` wrote as `jsonl` or `csv`. `undefined` for anything else, and for a part of it. */
export function readLedgerExport(text: string): readonly MaskedEvent[] | undefined {
  const events: MaskedEvent[] = [];
  const header = `${COLUMNS.join(',')}\n`;
  if (text.startsWith(header) && !text.endsWith('\n')) return undefined;
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  for (const value of text.startsWith(header) ? recordsIn(text.slice(header.length)) : lines.map(jsonIn)) {
    const reading = EXPORTED.safeParse(value);
    if (!reading.success) return undefined;
    events.push({ ...reading.data, at: Date.parse(reading.data.timestamp) });
  }
  return events.length === 0 ? undefined : events;
}

/** The rows of a CSV file as `cell` writes it. */
function recordsIn(csv: string): unknown[] {
  const rows: string[][] = [[]];
  for (const [, quoted, plain = '', end] of csv.matchAll(/(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|$)/g)) {
    const text = quoted?.replaceAll('""', '"') ?? plain;
    rows.at(-1)?.push(/^'+[=+\-@]/.test(text) ? text.slice(1) : text);
    if (end !== ',') rows.push([]);
  }
  const isCount = (name: (typeof COLUMNS)[number]): boolean => EXPORTED.shape[name] instanceof z.ZodNumber;
  return rows
    .filter((row) => row.length > 1)
    .map((row) => Object.fromEntries(COLUMNS.map((name, n) => [name, isCount(name) ? Number(row[n]) : row[n]])));
}

/** A cell that a spreadsheet does not take for a formula. */
function cell(value: unknown): string {
  const text = String(value);
  const safe = /^'*[=+\-@]/.test(text) && !/^-?\d/.test(text) ? `'${text}` : text;
  return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
