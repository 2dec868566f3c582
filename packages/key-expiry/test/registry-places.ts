import { join } from 'node:path';
import type { Clock } from '@tokenmirror/core';
import { Database, type DatabasePlace } from '@tokenmirror/database';
import { createSchema, temporaryDirectory } from '@tokenmirror/testkit';
import { KEY_SCHEMA, KeyRegistry, type BoxSecret, type KeyTables, type KeyUse, type QuotaCrossing } from '../src/index.js';

export interface RegistryPlace {
  readonly place: DatabasePlace;
  /** Every row of every table, as text. */
  readonly dump: () => Promise<string>;
  readonly destroy: () => Promise<void>;
}

/** The databases that a registry may rest in. */
export const REGISTRY_PLACES = {
  embedded: (): Promise<RegistryPlace> => {
    const place: DatabasePlace = { kind: 'embedded', file: join(temporaryDirectory('registry'), 'companions.db') };
    return Promise.resolve({ place, dump: () => dumpOf(place), destroy: () => Promise.resolve() });
  },
  postgres: async (): Promise<RegistryPlace> => {
    const created = await createSchema();
    const { dsn, schema } = created;
    const url = new URL(dsn);
    const config = {
      host: url.hostname,
      port: Number(url.port),
      user: url.username,
      password: url.password,
      database: url.pathname.slice(1),
    };
    const place: DatabasePlace = { kind: 'postgres', config, schema, description: 'postgres' };
    return { place, dump: () => dumpOf(place), destroy: () => created.destroy() };
  },
} as const;

const TABLES = [
  'tokenmirror_keys',
  'tokenmirror_key_use',
  'tokenmirror_key_audit',
  'tokenmirror_key_targets',
] as const satisfies readonly (keyof KeyTables)[];

async function dumpOf(place: DatabasePlace): Promise<string> {
  const database = await Database.open<KeyTables>(place, KEY_SCHEMA);
  const rows = await database.read((db) => Promise.all(TABLES.map((table) => db.selectFrom(table).selectAll().execute())));
  await database.close();
  return JSON.stringify(rows);
}

const databases = new WeakMap<KeyRegistry, Database<KeyTables>>();

export async function openRegistry(place: DatabasePlace, clock: Clock, secrets: readonly BoxSecret[] = []): Promise<KeyRegistry> {
  const database = await Database.open<KeyTables>(place, KEY_SCHEMA);
  const registry = await KeyRegistry.open({ database, clock, secrets });
  databases.set(registry, database);
  return registry;
}

/** What the ledger does of a registry's database when usage arrives. */
export function countUse(registry: KeyRegistry, use: KeyUse): Promise<readonly QuotaCrossing[]> {
  const database = databases.get(registry);
  if (database === undefined) throw new Error('not a registry of openRegistry');
  return database.change((changes) => registry.countWithin(changes, [use]));
}
