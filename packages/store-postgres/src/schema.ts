import { randomBytes, randomUUID } from 'node:crypto';
import type pg from 'pg';
import { checkFormat, TokenmirrorError, type ClusterIdentity } from '@tokenmirror/core';
import type { Names, Statements } from './sql.js';

const OLDEST_SERVER = 140_000;

interface Context {
  readonly client: pg.ClientBase;
  readonly sql: Statements;
  readonly names: Names;
  readonly place: string;
}

/** Checks the server, makes what is missing, and checks the rights. No DDL where everything is there. */
export async function prepareSchema(context: Context): Promise<ClusterIdentity> {
  const { client, sql, names, place } = context;
  await checkServer(context);
  const existing = await existingTables(context);
  const missing = sql.tables.filter(({ name }) => !existing.includes(name.slice(names.schema.length + 1)));
  if (missing.length > 0 || !(await isAttached(context))) {
    await attempt(
      `make ${missing.length > 0 ? `the tables ${missing.map(({ name }) => name).join(', ')}` : 'the triggers and the function on its tables'}`,
      context,
      () =>
        inTransaction(client, async () => {
          await client.query(`SELECT pg_advisory_xact_lock(hashtextextended('tokenmirror install', 0))`);
          const found = await client.query<{ found: boolean }>(sql.schemaExists);
          if (found.rows[0]?.found !== true) await client.query(sql.createSchema);
          for (const statement of missing.flatMap((table) => table.sql)) await client.query(statement);
          for (const statement of sql.triggers) await client.query(statement);
          await client.query(sql.writeMeta, [JSON.stringify({ id: randomUUID(), key: randomBytes(32).toString('base64url') })]);
          for (const statement of sql.adopt) await client.query(statement);
        }),
    );
  }
  const rights = await client.query<{ right: string; object: string; granted: boolean }>(sql.rights);
  const lacking = rights.rows.filter(({ granted }) => !granted).map(({ right, object }) => `${right} on ${object}`);
  if (lacking.length > 0) {
    throw new TokenmirrorError(
      'STORE_DENIED',
      `Postgres at ${place}: the user lacks ${lacking.join(', ')}`,
      'Grant what is named; the whole list is in docs/postgres.md.',
    );
  }
  const unadopted = await client.query<{ found: boolean }>(sql.unadopted);
  if (unadopted.rows[0]?.found === true) {
    await inTransaction(client, async () => {
      for (const statement of sql.adopt) await client.query(statement);
    });
  }
  const identity = await readIdentity(context);
  if (identity === undefined) {
    throw new TokenmirrorError(
      'STORE_UNREACHABLE',
      `Postgres at ${place}: the table ${names.schema}.tokenmirror_meta has lost the cluster's id`,
      'Restore that table from a backup. To start a new cluster instead, drop all tables tokenmirror_*.',
    );
  }
  return identity;
}

/** The cluster, where Tokenmirror has been before; changes nothing. */
export async function lookAtSchema(context: Context): Promise<ClusterIdentity | undefined> {
  await checkServer(context);
  const existing = await existingTables(context);
  return existing.includes('tokenmirror_meta') ? readIdentity(context) : undefined;
}

export async function existingTables({ client, sql }: Pick<Context, 'client' | 'sql'>): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(sql.existing);
  return rows.map(({ name }) => name);
}

async function checkServer({ client, sql, place }: Context): Promise<void> {
  const { rows } = await client.query<{ version: number; standby: boolean }>(sql.serverVersion);
  const [server] = rows;
  if (server === undefined || server.version < OLDEST_SERVER) {
    throw new TokenmirrorError('STORE_UNSUITABLE', `Postgres at ${place} is older than version 14`, 'Upgrade the server.');
  }
  if (server.standby) throw new TokenmirrorError('STORE_DENIED', `Postgres at ${place} is a read-only standby`, 'Name the primary server.');
}

async function isAttached({ client, sql }: Context): Promise<boolean> {
  const { rows } = await client.query<{ count: number }>(sql.attached);
  return rows[0]?.count === sql.expectedAttached;
}

async function readIdentity({ client, sql, place, names }: Context): Promise<ClusterIdentity | undefined> {
  const { rows } = await client.query<{ name: string; value: unknown }>(sql.readMeta);
  const meta = new Map(rows.map(({ name, value }) => [name, value]));
  if (!meta.has('cluster')) return undefined;
  checkFormat(meta.get('format'), `the schema ${names.schema} in Postgres at ${place}`);
  return meta.get('cluster') as ClusterIdentity;
}

async function attempt(what: string, { place }: Context, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if ((error as { code?: string }).code !== '42501') throw error;
    throw new TokenmirrorError(
      'STORE_DENIED',
      `Postgres at ${place}: the user lacks the right to ${what}`,
      'Let a user with CREATE on the schema start Tokenmirror once, or run the statements that docs/postgres.md lists; afterwards the grants there are enough.',
      { cause: error },
    );
  }
}

async function inTransaction(client: pg.ClientBase, work: () => Promise<void>): Promise<void> {
  await client.query('BEGIN');
  try {
    await work();
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined);
    throw error;
  }
}
