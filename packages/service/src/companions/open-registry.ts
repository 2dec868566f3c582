import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { messageOf, TokenmirrorError } from '@tokenmirror/core';
import { createFile, makeDirectory } from '@tokenmirror/files';
import type { DatabasePlace } from '@tokenmirror/database';
import type { BoxSecret, KeyRegistry, KeyTables } from '@tokenmirror/key-expiry';
import type { Locations } from '@tokenmirror/workspace';
import { encryptionKeys } from '../stores/encryption-keys.js';
import type { Settings } from '../options/settings.js';
import { systemClock } from '../system-clock.js';

const FILE = 'companions.db';
/** What cliproxy-access-manager calls its own. */
const UPSTREAM_FILE = 'apim.db';
const SECRET_BYTES = 32;

/** Opens the registry of keys, and makes it where it is new. @throws TokenmirrorError STORE_UNREACHABLE, STORE_DENIED, OPTION_INVALID, WORKSPACE_DENIED */
export async function openKeyRegistry(settings: Settings, locations: Locations): Promise<KeyRegistry> {
  const [{ Database }, keys] = await Promise.all([import('@tokenmirror/database'), import('@tokenmirror/key-expiry')]);
  const place = await databasePlace(settings, locations);
  const given = encryptionKeys(settings).all;
  const secrets = place.kind === 'embedded' ? [...given, await secretBeside(place.file)] : given;
  const database = await Database.open<KeyTables>(place, keys.KEY_SCHEMA);
  return keys.KeyRegistry.open({ database, clock: systemClock, secrets });
}

/** Postgres where that is the authority, so that every replica uses one registry; else a file. */
export async function databasePlace(settings: Settings, { stateDir }: Locations): Promise<DatabasePlace> {
  const { database, 'database-dir': directory, 'pg-schema': schema } = settings;
  const dsn = database === undefined && directory === undefined ? postgresAuthority(settings) : undefined;
  if (dsn === undefined)
    return { kind: 'embedded', file: database ?? (directory === undefined ? join(stateDir, FILE) : join(directory, UPSTREAM_FILE)) };
  const { negotiate, readDsn } = await import('@tokenmirror/store-postgres');
  const plan = readDsn(dsn);
  return { kind: 'postgres', config: await negotiate(plan), schema, description: `postgres://${plan.place} (schema ${schema})` };
}

function postgresAuthority({ store, 'pg-dsn': dsn }: Settings): string | undefined {
  if (store === undefined || store === 'postgres') return dsn;
  return /^postgres(ql)?:/i.test(store) ? store : undefined;
}

/** Keys are of no use to whoever gets hold of the database alone. @throws TokenmirrorError WORKSPACE_DENIED */
async function secretBeside(database: string): Promise<BoxSecret> {
  const file = `${database}.secret`;
  try {
    await makeDirectory(dirname(file));
    await createFile(file, `${randomBytes(SECRET_BYTES).toString('base64')}\n`);
    const secret = Buffer.from(readFileSync(file, 'utf8').trim(), 'base64');
    if (secret.length === SECRET_BYTES) return { id: 'file', secret };
  } catch (cause) {
    throw new TokenmirrorError('WORKSPACE_DENIED', `${file} cannot be used (${messageOf(cause)})`, 'Check the rights of its directory.', {
      cause,
    });
  }
  throw new TokenmirrorError('WORKSPACE_DENIED', `${file} does not hold a secret`, 'Restore it: without it the keys cannot be decrypted.');
}
