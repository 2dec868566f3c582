import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, expect, test } from '@jest/globals';
import {
  API_KEY,
  cleanTemporaryDirectories,
  CliProxyProcess,
  createSchema,
  DaemonProcess,
  MANAGEMENT_KEY,
  ProviderServer,
  temporaryDirectory,
  until,
  UpstreamPostgres,
  type TestSchema,
} from '@tokenmirror/testkit';

const NAME = 'claude-a.json';

let schema: TestSchema;
let upstream: UpstreamPostgres;
let server: ProviderServer;
let cpa: CliProxyProcess;
let daemon: DaemonProcess;

beforeEach(async () => {
  schema = await createSchema();
  upstream = new UpstreamPostgres(schema);
  server = await ProviderServer.start();
  const workspace = temporaryDirectory('beside');
  cpa = new CliProxyProcess({
    flavour: '7.2',
    workspace,
    proxyUrl: server.url('socks5'),
    authorityFile: server.authorityFile,
    reloadDelayMs: 300,
  });
  daemon = new DaemonProcess(workspace, [], { PGSTORE_DSN: schema.dsn, PGSTORE_SCHEMA: schema.schema });
});

afterEach(async () => {
  await Promise.all([daemon.kill(), cpa.end('SIGKILL')]);
  await server.stop();
  await schema.destroy();
});

afterAll(cleanTemporaryDirectories);

const path = (): string => join(cpa.authDir, NAME);
const file = (): Record<string, unknown> => cpa.credential(NAME) ?? {};

async function stored(): Promise<Record<string, unknown> | undefined> {
  const [row] = await schema.query<{ content: Record<string, unknown> }>('SELECT content FROM auth_store WHERE id = $1', [NAME]);
  return row?.content;
}

/** The proxy with one credential, and the daemon, in sync. */
async function begin(more: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
  const email = 'a@example.com';
  const { access_token, refresh_token } = server.provider.issue('claude', email);
  const expired = new Date(Date.now() + 7 * 3_600_000).toISOString().replace(/\.\d+Z$/, 'Z');
  const fields = { type: 'claude', email, access_token, refresh_token, expired, disabled: false, claude_device_ids: ['d'], ...more };
  writeFileSync(path(), JSON.stringify(fields));
  await cpa.start();
  await daemon.start();
  await until('it is in the store', async () => (await stored()) !== undefined);
  return fields;
}

/** A request that ends right after something is done, before the proxy has read the files again. */
async function whileARequestEnds(work: () => Promise<void>, endsAfterMs: number): Promise<void> {
  server.provider.trouble.messageDelayMs = endsAfterMs;
  const request = cpa.message('claude');
  await delay(20);
  await work();
  await request;
}

test('incident 37: a replaced credential that the proxy puts back is repaired, and its old content does not travel', async () => {
  const fields = await begin();
  let note = '';
  for (let attempt = 1; attempt <= 5 && !daemon.logged('repair'); attempt += 1) {
    note = `from elsewhere, ${String(attempt)}`;
    await whileARequestEnds(async () => {
      await upstream.saveCredential(NAME, JSON.stringify({ ...fields, note }));
      await until('the file has it', () => file()['note'] === note);
    }, 150);
    await delay(500);
  }
  await until('the proxy put it back and it was repaired', () => daemon.logged('repair') && file()['note'] === note);
  await delay(2500);
  expect(file()['note']).toBe(note);
  expect((await stored())?.['note']).toBe(note);
});

test('incident 38: a deleted credential stays deleted although a request ends just then', async () => {
  await begin();
  await whileARequestEnds(() => upstream.deleteCredential(NAME), 700);
  await until('it is gone', () => !existsSync(path()));
  for (let n = 0; n < 5; n += 1) {
    await cpa.message('claude');
    await delay(300);
  }
  expect(existsSync(path())).toBe(false);
  expect(await stored()).toBeUndefined();
});

test('incident 39: a refresh in flight delivers its grant, and undoes no setting', async () => {
  server.provider.trouble.tokenDelayMs = 1500;
  const fields = await begin({ expired: '2020-01-01T00:00:00Z' });
  await until('the refresh began', () => server.provider.counts.tokenCalls === 1);
  await upstream.saveCredential(NAME, JSON.stringify({ ...fields, note: 'made during the refresh', proxy_url: 'http://proxy' }));
  await until('the file has it', () => file()['note'] === 'made during the refresh');
  await until('the new grant is in the store', async () => (await stored())?.['access_token'] !== fields['access_token']);
  const wanted = { note: 'made during the refresh', proxy_url: 'http://proxy', access_token: (await stored())?.['access_token'] };
  await until('the file has both', () => file()['note'] === wanted.note && file()['access_token'] === wanted.access_token);
  expect(await stored()).toMatchObject(wanted);
});

test('incidents 36 and 43: updates of the config reach the proxy, on one inode, and never open it, daemon killed or not', async () => {
  await begin();
  const { ino } = statSync(cpa.configFile);
  const answers = new Set<number>();
  const strangers = new AbortController();
  const stranger = (async () => {
    while (!strangers.signal.aborted) {
      answers.add((await cpa.http('GET', '/v1/models')).status);
      await delay(1);
    }
  })();
  const letsIn = async (key: string): Promise<boolean> =>
    (await cpa.http('GET', '/v1/models', { authorization: `Bearer ${key}` })).status === 200;
  for (let n = 0; n < 6; n += 1) {
    const key = `sk-number-${String(n)}`;
    const [row] = await schema.query<{ content: string }>("SELECT content FROM config_store WHERE id = 'config'");
    const padding = '# a comment of some length\n'.repeat((n % 3) * 50);
    await upstream.saveConfig(`${(row?.content ?? '').replace(/api-keys:[^]*$/, '')}api-keys:\n  - ${API_KEY}\n  - ${key}\n${padding}`);
    if (n % 2 === 1) {
      await delay(20);
      await daemon.kill();
      await daemon.start();
    }
    await until(`the proxy lets ${key} in`, () => letsIn(key));
  }
  strangers.abort();
  await stranger;
  expect([...answers]).toEqual([401]);
  expect(statSync(cpa.configFile).ino).toBe(ino);
  expect((await cpa.manage('GET', '/api-keys', undefined, MANAGEMENT_KEY)).status).toBe(200);
});

test('a daemon that was killed in the middle of a deletion completes it, and knows the `disabled` as its own', async () => {
  await begin();
  await upstream.deleteCredential(NAME);
  await until('it is disabled', () => file()['disabled'] === true);
  await daemon.kill();
  expect(existsSync(path())).toBe(true);
  await delay(6000);
  await daemon.start();
  await until('it is gone', () => !existsSync(path()));
  expect(await stored()).toBeUndefined();
});

test('an edit in the middle of a deletion beats it, without the `disabled`', async () => {
  await begin();
  await upstream.deleteCredential(NAME);
  await until('it is disabled', () => file()['disabled'] === true);
  await daemon.kill();
  writeFileSync(path(), JSON.stringify({ ...JSON.parse(readFileSync(path(), 'utf8')), note: 'keep me' }));
  await delay(6000);
  await daemon.start();
  await until('it is in the store again', async () => (await stored())?.['note'] === 'keep me');
  await until('it is enabled', () => file()['disabled'] === false);
  expect(await stored()).toMatchObject({ note: 'keep me', disabled: false });
});
