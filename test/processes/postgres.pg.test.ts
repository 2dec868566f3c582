import { existsSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  createSchema,
  credential,
  DaemonProcess,
  readCredentials,
  SilentProxy,
  temporaryDirectory,
  until,
  UpstreamPostgres,
  type TestSchema,
} from '@tokenmirror/testkit';

let schema: TestSchema;
let daemons: DaemonProcess[];

beforeEach(async () => {
  schema = await createSchema();
  daemons = [];
});

afterEach(async () => {
  for (const daemon of daemons) await daemon.kill();
  await schema.destroy();
});

afterAll(cleanTemporaryDirectories);

function daemon(dsn = schema.dsn, args: readonly string[] = []): DaemonProcess {
  const made = new DaemonProcess(temporaryDirectory('replica'), ['--store-timeout', '2s', '--custody', 'off', ...args], {
    PGSTORE_DSN: dsn,
    PGSTORE_SCHEMA: schema.schema,
  });
  daemons.push(made);
  return made;
}

const stored = async (): Promise<string[]> => [...(await new UpstreamPostgres(schema).boot()).credentials.keys()];

test('where notifications do not arrive, the store is asked every second instead', async () => {
  const proxy = await SilentProxy.before(Number(new URL(schema.dsn).port), { swallowNotifications: true });
  const url = new URL(schema.dsn);
  url.port = String(proxy.port);
  const [behind, direct] = [daemon(url.href, ['--poll-interval', '1h']), daemon()];
  try {
    await Promise.all([behind.start(), direct.start()]);
    writeFileSync(join(direct.authDir, 'polled.json'), credential());
    await until('it arrived without a notification', () => existsSync(join(behind.authDir, 'polled.json')));
  } finally {
    await behind.kill();
    await proxy.close();
  }
});

test('after TRUNCATE the documents are put back', async () => {
  const a = daemon();
  for (let n = 0; n < 5; n += 1) writeFileSync(join(a.authDir, `c-${String(n)}.json`), credential());
  await a.start();
  await schema.query('TRUNCATE auth_store');
  await until('they are back in the table', async () => (await stored()).length === 5);
  expect(Object.keys(readCredentials(a.authDir))).toHaveLength(5);
});

test('a row that CLIProxyAPI deletes goes in every workspace', async () => {
  const [a, b] = [daemon(), daemon()];
  for (const name of ['one.json', 'two.json', 'three.json']) writeFileSync(join(a.authDir, name), credential());
  await Promise.all([a.start(), b.start()]);
  await until('all is at b', () => Object.keys(readCredentials(b.authDir)).length === 3);
  await new UpstreamPostgres(schema).deleteCredential('one.json');
  await until('it is gone', () => !existsSync(join(a.authDir, 'one.json')) && !existsSync(join(b.authDir, 'one.json')));
  unlinkSync(join(a.authDir, 'two.json'));
  await until('and so is the next', async () => (await stored()).length === 1);
});
