import type { Kysely } from 'kysely';
import { z } from 'zod';
import type { Schema } from '@tokenmirror/database';
import type { KeyTables } from '@tokenmirror/key-expiry';

/** What is summed up. */
export interface Sums {
  requests: number;
  failed: number;
  input: number;
  output: number;
  reasoning: number;
  cached: number;
  cache_creation: number;
  total: number;
}

/** Counts of tokens, as they stand in files. */
export const COUNT = z.number().int().nonnegative();
export const TOKEN_COUNTS = { input: COUNT, output: COUNT, reasoning: COUNT, cached: COUNT, cache_creation: COUNT, total: COUNT };

/** By what. `origin` is the CLIProxyAPI; keys and accounts stand as keyed hashes. */
export interface Dimensions {
  origin: string;
  key_hash: string;
  model: string;
  provider: string;
  account_hash: string;
}

interface EventRow extends Dimensions, Omit<Sums, 'requests' | 'failed'> {
  id: string;
  /** ms since the epoch. */
  at: number;
  timestamp: string;
  auth_index: string;
  endpoint: string;
  failed: number;
  latency_ms: number;
}

interface PeriodRow extends Dimensions, Sums {
  /** Beginning of the hour or day, UTC; ms since the epoch. */
  start: number;
}

export interface UsageTables extends KeyTables {
  tokenmirror_usage_events: EventRow;
  tokenmirror_usage_hours: PeriodRow;
  tokenmirror_usage_days: PeriodRow;
  /** What a hash stands for: a mask, and in the snapshot era, which wants it back, the name itself in its box. */
  tokenmirror_usage_names: { hash: string; mask: string; sealed: string | null };
  /** What was found to be missing, or to be in the way. */
  tokenmirror_usage_losses: { origin: string; at: number; kind: string; detail: string };
}

export const USAGE_SCHEMA: Schema = { name: 'tokenmirror_usage', steps: { '001-ledger': ledger } };

async function ledger(db: Kysely<unknown>): Promise<void> {
  const dimensions = ['origin', 'key_hash', 'model', 'provider', 'account_hash'] as const;
  const counts = ['input', 'output', 'reasoning', 'cached', 'cache_creation', 'total'] as const;
  let events = db.schema.createTable('tokenmirror_usage_events').addColumn('id', 'text', (column) => column.primaryKey());
  for (const name of [...dimensions, 'timestamp', 'auth_index', 'endpoint'])
    events = events.addColumn(name, 'text', (column) => column.notNull());
  for (const name of [...counts, 'at', 'failed', 'latency_ms']) events = events.addColumn(name, 'bigint', (column) => column.notNull());
  await events.execute();
  await db.schema.createIndex('tokenmirror_usage_events_at').on('tokenmirror_usage_events').columns(['at']).execute();
  await db.schema.createIndex('tokenmirror_usage_events_origin').on('tokenmirror_usage_events').columns(['origin', 'at']).execute();
  for (const table of ['tokenmirror_usage_hours', 'tokenmirror_usage_days'] as const) {
    let periods = db.schema.createTable(table).addColumn<string>('start', 'bigint', (column) => column.notNull());
    for (const name of dimensions) periods = periods.addColumn(name, 'text', (column) => column.notNull());
    for (const name of ['requests', 'failed', ...counts]) periods = periods.addColumn(name, 'bigint', (column) => column.notNull());
    await periods.addPrimaryKeyConstraint(`${table}_pk`, ['start', ...dimensions]).execute();
  }
  await db.schema
    .createTable('tokenmirror_usage_names')
    .addColumn('hash', 'text', (column) => column.primaryKey())
    .addColumn('mask', 'text', (column) => column.notNull())
    .addColumn('sealed', 'text')
    .execute();
  await db.schema
    .createTable('tokenmirror_usage_losses')
    .addColumn('origin', 'text', (column) => column.notNull())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('detail', 'text', (column) => column.notNull())
    .execute();
}
