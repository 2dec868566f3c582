import pg from 'pg';
import { messageOf, TokenmirrorError } from '@tokenmirror/core';

export interface PostgresPlace {
  readonly kind: 'postgres';
  readonly config: pg.ClientConfig;
  readonly schema: string;
  /** As it may be shown. */
  readonly description: string;
}

const POOL_SIZE = 3;
const TIMEOUT_MS = 15_000;

/** Times in ms and counts stay below 2^53. */
const BIGINTS_AS_NUMBERS = new pg.TypeOverrides();
BIGINTS_AS_NUMBERS.setTypeParser(pg.types.builtins.INT8, Number);

export function openPool({ config }: PostgresPlace): pg.Pool {
  const pool = new pg.Pool({
    ...config,
    max: POOL_SIZE,
    query_timeout: TIMEOUT_MS,
    keepAlive: true,
    allowExitOnIdle: true,
    types: BIGINTS_AS_NUMBERS,
  });
  pool.on('error', () => undefined);
  return pool;
}

/** What went wrong, with a remedy. Errors of ours, and defects, go through as they are. */
export function explain(error: unknown, place: string): Error {
  if (error instanceof TokenmirrorError) return error;
  const code = codeOf(error);
  const make = (kind: 'STORE_DENIED' | 'STORE_FULL' | 'STORE_UNREACHABLE' | 'FORMAT_NEWER', what: string, remedy: string) =>
    new TokenmirrorError(kind, `the database ${place}: ${what}`, remedy, { cause: error });
  const message = messageOf(error);
  if (/corrupted migrations/i.test(message)) return make('FORMAT_NEWER', 'it was made by a newer version', 'Update Tokenmirror here, too.');
  if (code === '42501') return make('STORE_DENIED', message, 'Grant the right that is named, or CREATE on the schema for the first start.');
  if (code.startsWith('28') || code === '3D000')
    return make('STORE_DENIED', 'the user was refused, or the database is not there', 'Check the DSN.');
  if (code === 'SQLITE_FULL' || code === '53100') return make('STORE_FULL', 'its disk is full', 'Free some space.');
  if (code === 'SQLITE_CORRUPT' || code === 'SQLITE_NOTADB')
    return make('STORE_DENIED', 'it is damaged, or no database', 'Move the file away, or restore it from a backup.');
  const isDriver = error instanceof pg.DatabaseError || code.startsWith('SQLITE_');
  const isOutage = isDriver
    ? /^(08|53|57|40|SQLITE_(BUSY|IOERR|CANTOPEN|READONLY))/.test(code)
    : /^E[A-Z]+$/.test(code) || /timeout|terminat|connection|destroyed/i.test(message);
  return isOutage ? make('STORE_UNREACHABLE', `it does not answer (${code || message})`, 'It is tried again by itself.') : asError(error);
}

export function codeOf(error: unknown): string {
  const code = (error as { code?: unknown } | undefined)?.code;
  return typeof code === 'string' ? code : '';
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(messageOf(error));
}
