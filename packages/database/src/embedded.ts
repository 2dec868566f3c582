import { closeSync, mkdirSync, openSync } from 'node:fs';
import { dirname } from 'node:path';
import type { SqliteDatabase, SqliteStatement } from 'kysely';
import { TokenmirrorError } from '@tokenmirror/core';
import { codeOf } from './postgres.js';

/** How long a call may block everything else while another process writes, in ms. */
const BUSY_MS = 20;
/** Each holds memory that the garbage collector knows nothing of. */
const MOST_STATEMENTS = 100;

/** The part of libsql that is used; its own types are those of another package. */
interface Libsql {
  new (file: string, options?: { readonly?: boolean }): LibsqlDatabase;
}
interface LibsqlDatabase {
  prepare(sql: string): SqliteStatement;
  exec(sql: string): void;
  close(): void;
}

/** Opens a file, made with mode 0600 where it is new. @throws TokenmirrorError WORKSPACE_DENIED */
export async function openEmbedded(file: string): Promise<SqliteDatabase> {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    makeNew(file);
  } catch (cause) {
    throw new TokenmirrorError(
      'WORKSPACE_DENIED',
      `the database ${file} cannot be opened (${(cause as NodeJS.ErrnoException).code ?? ''})`,
      'Check the rights of its directory, or name another file as `database`.',
      { cause },
    );
  }
  const raw = new (await libsql())(file);
  raw.exec(`PRAGMA busy_timeout = ${String(BUSY_MS)}`);
  raw.exec('PRAGMA journal_mode = WAL');
  raw.exec('PRAGMA synchronous = FULL');
  raw.exec('PRAGMA foreign_keys = ON');
  const statements = new Map<string, SqliteStatement>();
  return {
    prepare: (sql) => {
      const known = statements.get(sql);
      if (known !== undefined) return known;
      if (statements.size >= MOST_STATEMENTS) statements.delete(statements.keys().next().value ?? '');
      // A transaction that reads first and writes later fails when another process wrote in between.
      const statement = raw.prepare(sql === 'begin' ? 'begin immediate' : sql);
      statements.set(sql, statement);
      return statement;
    },
    close: () => {
      raw.close();
    },
  };
}

/** Rows of a table in an SQLite file of somebody else's, which is not changed. `undefined` for a file that is no database. @throws an error of the driver */
export async function readForeignTable(file: string, table: string): Promise<Record<string, unknown>[] | undefined> {
  const raw = new (await libsql())(file, { readonly: true });
  try {
    return raw.prepare(`SELECT * FROM "${table.replaceAll('"', '""')}"`).all([]) as Record<string, unknown>[];
  } catch (error) {
    if (codeOf(error) === 'SQLITE_NOTADB') return undefined;
    throw error;
  } finally {
    raw.close();
  }
}

/**
 * Only where there is none: whoever opens and closes a database by other means than SQLite takes the locks away from every connection of its process, and the
 * next process to leave removes the log from under them.
 */
function makeNew(file: string): void {
  try {
    closeSync(openSync(file, 'ax', 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

export function isLibsqlBusy(error: unknown): boolean {
  return codeOf(error).startsWith('SQLITE_BUSY');
}

async function libsql(): Promise<Libsql> {
  return ((await import('libsql')) as unknown as { default: Libsql }).default;
}
