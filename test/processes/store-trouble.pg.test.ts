import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  createSchema,
  credential,
  DaemonProcess,
  renameOver,
  temporaryDirectory,
  until,
  type LogLine,
  type TestSchema,
} from '@tokenmirror/testkit';

let schema: TestSchema;
let daemon: DaemonProcess;

beforeEach(async () => {
  schema = await createSchema();
  daemon = new DaemonProcess(temporaryDirectory('replica'), [], { PGSTORE_DSN: schema.dsn, PGSTORE_SCHEMA: schema.schema });
});

afterEach(async () => {
  await daemon.kill();
  await schema.destroy();
});

afterAll(cleanTemporaryDirectories);

const outages = (): LogLine[] => daemon.log.filter(({ msg }) => msg === 'store-unreachable');

test('a store that can be read and not written is tried ever more rarely, and caught up with', async () => {
  await daemon.start();
  await schema.query(
    `CREATE FUNCTION ${schema.schema}.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$`,
  );
  await schema.query(`CREATE TRIGGER full_disk BEFORE INSERT ON auth_store FOR EACH STATEMENT EXECUTE FUNCTION ${schema.schema}.full()`);
  writeFileSync(join(daemon.authDir, 'claude-a.json'), credential());
  await until('it was tried several times', () => outages().length >= 5);
  const times = outages().map(({ time }) => Date.parse(String(time)));
  const pauses = times.slice(1).map((time, index) => time - (times[index] ?? 0));
  expect(pauses[3]).toBeGreaterThan((pauses[0] ?? 0) * 2);
  await schema.query('DROP TRIGGER full_disk ON auth_store');
  await until('the credential is in the store', async () => (await schema.query('SELECT FROM auth_store')).length === 1);
});

test('a store directory restored to yesterday under a running daemon takes the newer grant back, and keeps what it lacked', async () => {
  const store = join(temporaryDirectory('store'), 'store');
  const local = new DaemonProcess(temporaryDirectory('replica'), ['--store', `file://${store}`, '--poll-interval', '1s']);
  const stored = (name: string): unknown => JSON.parse(readFileSync(join(store, 'auths', name), 'utf8'));
  try {
    writeFileSync(join(local.authDir, 'claude-a.json'), credential({ access_token: 'old', expired: '2026-01-01T00:00:00Z' }));
    await local.start();
    cpSync(store, `${store}-copy`, { recursive: true, preserveTimestamps: true });
    renameOver(join(local.authDir, 'claude-a.json'), credential({ access_token: 'new', expired: '2026-02-01T00:00:00Z' }));
    writeFileSync(join(local.authDir, 'claude-b.json'), credential());
    await until(
      'both are stored',
      () =>
        existsSync(join(store, 'auths', 'claude-b.json')) && readFileSync(join(store, 'auths', 'claude-a.json'), 'utf8').includes('"new"'),
    );
    renameSync(store, `${store}-away`);
    cpSync(`${store}-copy`, store, { recursive: true, preserveTimestamps: true });
    await until(
      'the store has them again',
      () =>
        existsSync(join(store, 'auths', 'claude-b.json')) && readFileSync(join(store, 'auths', 'claude-a.json'), 'utf8').includes('"new"'),
    );
    expect(JSON.parse(readFileSync(join(local.authDir, 'claude-a.json'), 'utf8'))).toMatchObject({ access_token: 'new' });
    expect(stored('claude-a.json')).toMatchObject({ access_token: 'new' });
  } finally {
    await local.kill();
  }
});

test('a daemon whose lock was taken away stops and says so', async () => {
  await daemon.start();
  rmSync(join(daemon.workspace, '.tokenmirror', 'lock'), { recursive: true });
  expect(await daemon.ended()).toBe(3);
  expect(daemon.output).toContain('the lock on this workspace was taken away');
});

test('the directory of another replica, put in the place of ours, deletes nothing and is merged', async () => {
  for (const name of ['a', 'b', 'c']) writeFileSync(join(daemon.authDir, `claude-${name}.json`), credential());
  await daemon.start();
  const other = join(daemon.workspace, 'other');
  mkdirSync(other);
  writeFileSync(join(other, '.tokenmirror-replica'), JSON.stringify({ format: 1, oldestReader: 1, id: 'another-replica' }));
  writeFileSync(join(other, 'claude-d.json'), credential());
  renameSync(daemon.authDir, join(daemon.workspace, 'away'));
  renameSync(other, daemon.authDir);
  await until('everything is there', () => {
    try {
      return ['a', 'b', 'c', 'd'].every((name) => readFileSync(join(daemon.authDir, `claude-${name}.json`), 'utf8').length > 0);
    } catch {
      return false;
    }
  });
  await until('the new one is in the store', async () => (await schema.query('SELECT FROM auth_store')).length === 4);
  expect(daemon.logged('rehydrating')).toBe(true);
});
