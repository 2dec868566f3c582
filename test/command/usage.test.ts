import { createRequire } from 'node:module';
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  API_KEY,
  cleanTemporaryDirectories,
  CliProxyProcess,
  DaemonProcess,
  freePort,
  MANAGEMENT_KEY,
  ProviderServer,
  runCommand,
  TelegramServer,
  temporaryDirectory,
  until,
  type Flavour,
} from '@tokenmirror/testkit';
import { STORE_PLACES, type StoreKind } from '../store-places.js';

const NAME = 'claude-user@example.com.json';

let workspace: string;
let server: ProviderServer;
let cpa: CliProxyProcess;
let daemons: DaemonProcess[];
let words: readonly string[];
let port: number;

beforeEach(async () => {
  workspace = temporaryDirectory('usage');
  server = await ProviderServer.start();
  daemons = [];
  port = await freePort();
  words = ['--workspace', workspace, '--store', pathToFileURL(join(temporaryDirectory('usage-store'), 'store')).href];
});

afterEach(async () => {
  for (const daemon of daemons) await daemon.kill();
  await cpa.end('SIGKILL');
  await server.stop();
});

afterAll(cleanTemporaryDirectories);

async function start(flavour: Flavour): Promise<void> {
  cpa = new CliProxyProcess({ flavour, workspace, proxyUrl: server.url('http'), authorityFile: server.authorityFile });
  server.provider.lifetimes.claude = 8 * 3600;
  const { access_token, refresh_token } = server.provider.issue('claude', 'user@example.com');
  const instant = (ms: number): string => new Date(Date.now() + ms).toISOString().replace(/\.\d+Z$/, 'Z');
  const fields = {
    type: 'claude',
    email: 'user@example.com',
    access_token,
    refresh_token,
    expired: instant(8 * 3_600_000),
    last_refresh: instant(0),
    disabled: false,
  };
  writeFileSync(join(cpa.authDir, NAME), JSON.stringify(fields), { mode: 0o600 });
  await cpa.start();
}

async function run(environment: Readonly<Record<string, string>> = {}): Promise<DaemonProcess> {
  const daemon = new DaemonProcess(workspace, words.slice(2), {
    TOKENMIRROR_HTTP_LISTEN: `127.0.0.1:${String(port)}`,
    CLIPROXY_MGMT_KEY: MANAGEMENT_KEY,
    TOKENMIRROR_USAGE: 'yes',
    TOKENMIRROR_USAGE_ENABLE: 'yes',
    APIM_USAGE_SYNC_INTERVAL: '300ms',
    APIM_RECOVERY_CHECK_INTERVAL: '300ms',
    ...environment,
  });
  daemons.push(daemon);
  await daemon.start();
  return daemon;
}

const usage = (...args: readonly string[]) => runCommand(['usage', ...args, ...words], { CLIPROXY_MGMT_KEY: MANAGEMENT_KEY });
async function top(by = 'key'): Promise<Record<string, unknown>[]> {
  return JSON.parse((await usage('top', '--by', by, '--json')).stdout) as Record<string, unknown>[];
}
/** Not so often that the limit of requests is met. */
async function counted(): Promise<number> {
  await delay(300);
  const answer = await fetch(`http://127.0.0.1:${String(port)}/usage/top?by=origin&since=30d`).catch(() => undefined);
  if (answer?.status !== 200) return -1;
  const { items } = (await answer.json()) as { items: { requests: number }[] };
  return items.reduce((sum, { requests }) => sum + requests, 0);
}
async function isOn(): Promise<boolean> {
  return (await cpa.manage('GET', '/usage-statistics-enabled')).text.includes('true');
}

describe.each(['7.2', '6.9'] as const)('beside CLIProxyAPI %s', (flavour) => {
  test('what is used is collected, joined with the owners of keys, and told in every way', async () => {
    await start(flavour);
    const daemon = await run();
    const key = (
      await runCommand(['keys', 'add', '--owner', 'me@example.com', ...words], { CLIPROXY_MGMT_KEY: MANAGEMENT_KEY })
    ).stdout.trim();
    await until('recording is on', isOn);
    await until('the key is let in', async () => (await cpa.http('GET', '/v1/models', { authorization: `Bearer ${key}` })).status === 200);
    for (let n = 0; n < 4; n += 1) expect((await cpa.message('claude', n === 0 ? API_KEY : key)).status).toBe(200);
    await until('it is collected', async () => (await counted()) === 4);
    expect(await top()).toMatchObject([
      { name: expect.stringMatching(/^sk-me-…/), owner_email: 'me@example.com', requests: 3, failed: 0, total_tokens: 30 },
      { name: 'sk-…ts', requests: 1 },
    ]);
    expect(await top('model')).toMatchObject([{ name: 'claude-sonnet-4-5-20250929', requests: 4 }]);
    expect(await top('account')).toMatchObject([{ name: 'u***@example.com', requests: 4 }]);
    expect((await usage('top')).stdout).toMatch(/me@example\.com\s+3\s+0\s+24/);
    expect(JSON.parse((await usage('account', 'me@example.com', '--json')).stdout)).toMatchObject({ requests: 3 });
    expect((await usage('timeline')).stdout).toContain('█');
    expect((await usage('status')).stdout).toContain(flavour === '7.2' ? 'by resp-queue' : 'by snapshot');
    const metrics = async (): Promise<string> => {
      await delay(300);
      return (await fetch(`http://127.0.0.1:${String(port)}/metrics`)).text();
    };
    await until('it is in the metrics', async () => /tokenmirror_usage_collected_total\{origin="[^"]+"\} 4/.test(await metrics()));
    const file = join(temporaryDirectory('usage-export'), 'usage.jsonl');
    expect((await usage('export', '--file', file)).exitCode).toBe(0);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, 'utf8').trim().split('\n')).toHaveLength(4);
    expect((await usage('import', file)).stderr).toContain('0 of 4 requests were new');
    const elsewhere = ['--workspace', temporaryDirectory('usage-elsewhere'), ...words.slice(2)];
    expect((await runCommand(['usage', 'import', file, ...elsewhere])).stderr).toContain('4 of 4 requests were new');
    expect((await runCommand(['usage', 'import', file, ...elsewhere])).stderr).toContain('0 of 4 requests were new');
    const there = JSON.parse((await runCommand(['usage', 'top', '--json', ...elsewhere])).stdout) as object[];
    expect(there).toMatchObject([{ name: expect.stringMatching(/^sk-me-…/), requests: 3, total_tokens: 30 }, { requests: 1 }]);
    const [mine] = (JSON.parse((await runCommand(['keys', 'list', '--json', ...words])).stdout) as { items: { id: string }[] }).items;
    const ofKey = JSON.parse((await usage('timeline', '--key', mine?.id ?? '', '--json')).stdout) as { requests: number }[];
    expect(ofKey.reduce((sum, { requests }) => sum + requests, 0)).toBe(3);
    expect((await cpa.message('claude')).status).toBe(200);
    const asked = await fetch(`http://127.0.0.1:${String(port)}/usage/sync_now`, { method: 'POST' });
    expect({ status: asked.status, body: await asked.json() }).toMatchObject({
      status: 200,
      body: { ok: true, targets: [{ collected: 5 }] },
    });
    for (const secret of [key, API_KEY])
      expect([readFileSync(file, 'utf8'), daemon.output, await metrics()].join('')).not.toContain(secret);
  });

  test('nothing is lost and nothing counted twice while the daemon is killed again and again under traffic', async () => {
    await start(flavour);
    let daemon = await run();
    await until('recording is on', isOn);
    await until('it collects', async () => (await counted()) >= 0);
    let sent = 0;
    const isOver = { yet: false };
    const traffic = (async () => {
      while (!isOver.yet) if ((await cpa.message('claude')).status === 200) sent += 1;
    })();
    for (let round = 0; round < 4; round += 1) {
      const before = sent;
      await until('there is traffic', () => sent >= before + 20);
      await daemon.kill();
      daemon = await run();
    }
    isOver.yet = true;
    await traffic;
    await until('all of it is there', async () => (await counted()) === sent);
  });
});

test('what the queue has is kept although the database was never open, and counted when it is', async () => {
  await start('7.2');
  const database = join(temporaryDirectory('usage-database'), 'companions.db');
  writeFileSync(database, 'no database at all');
  const daemon = await run({ TOKENMIRROR_DATABASE: database });
  await until('recording is on', isOn);
  for (let n = 0; n < 3; n += 1) expect((await cpa.message('claude')).status).toBe(200);
  const spooled = (): string[] =>
    readdirSync(join(workspace, '.tokenmirror', 'usage'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.jsonl'));
  await until('it is spooled', () => spooled().length > 0);
  await daemon.kill();
  rmSync(database);
  await run({ TOKENMIRROR_DATABASE: database });
  await until('it is counted', async () => (await counted()) === 3);
  expect(spooled()).toEqual([]);
});

test('a quota is enforced as usage flows, told by an alarm, and asked for in a chat', async () => {
  await start('7.2');
  const telegram = await TelegramServer.start();
  try {
    await run({ TELEGRAM_BOT_TOKEN: telegram.token, TELEGRAM_ALLOWED_USER_IDS: '7', TOKENMIRROR_TELEGRAM_API: telegram.url });
    const added = await runCommand(['keys', 'add', '--owner', 'me@example.com', '--quota', '3 requests per day', ...words], {
      CLIPROXY_MGMT_KEY: MANAGEMENT_KEY,
    });
    const key = added.stdout.trim();
    await until('recording is on', isOn);
    for (let n = 0; n < 3; n += 1) expect((await cpa.message('claude', key)).status).toBe(200);
    await until('it is kept out', async () => (await cpa.http('GET', '/v1/models', { authorization: `Bearer ${key}` })).status === 401);
    expect((await cpa.message('claude')).status).toBe(200);
    const status = async (): Promise<string> => {
      await delay(300);
      return (await fetch(`http://127.0.0.1:${String(port)}/status`)).text();
    };
    await until('it is told', async () => (await status()).includes('used 3 of 3 requests per day'));
    telegram.say('/usage_top 24h');
    await until('it answers', () => telegram.sent.some(({ text }) => text.includes('(me@example.com) · 3 requests')));
    telegram.say('/me me@example.com');
    await until('it answers', () => telegram.sent.some(({ text }) => text.includes('exhausted')));
  } finally {
    await telegram.stop();
  }
});

test('an export of CLIProxyAPI and the snapshots of cliproxy-access-manager are imported, once', async () => {
  await start('6.9');
  expect((await cpa.manage('PUT', '/usage-statistics-enabled', { value: true })).status).toBe(200);
  await until('recording is on', isOn);
  for (let n = 0; n < 3; n += 1) await cpa.message('claude');
  const { text } = await cpa.manage('GET', '/usage/export');
  const directory = temporaryDirectory('usage-import');
  const file = join(directory, 'usage-export.json');
  writeFileSync(file, text);
  expect((await usage('import', file)).stderr).toContain('3 of 3 requests were new');
  const Libsql = createRequire(join(import.meta.dirname, '../../packages/database/package.json'))('libsql') as new (path: string) => {
    exec(sql: string): void;
    prepare(sql: string): { run(...values: unknown[]): void };
    close(): void;
  };
  const theirs = new Libsql(join(directory, 'apim.db'));
  theirs.exec('CREATE TABLE usage_snapshots (id INTEGER PRIMARY KEY, snapshot_hash TEXT, exported_at DATETIME, payload_json TEXT)');
  theirs.prepare('INSERT INTO usage_snapshots (snapshot_hash, exported_at, payload_json) VALUES (?, ?, ?)').run('a', '2026-01-01', text);
  theirs.close();
  expect((await usage('import', join(directory, 'apim.db'))).stderr).toContain('0 of 3 requests were new');
  writeFileSync(file, 'nothing of that kind');
  expect(await usage('import', file)).toMatchObject({ exitCode: 6, stderr: expect.stringContaining('holds no usage') });
});

test.each<StoreKind>(['filesystem', 's3', 'git'])('the sums by day go into %s and come back into a ledger that was lost', async (name) => {
  await start('6.9');
  const place = await STORE_PLACES[name]();
  const file = join(temporaryDirectory('usage-import'), 'usage.jsonl');
  const record = (n: number): string =>
    JSON.stringify({
      timestamp: `2026-01-0${String(n)}T10:00:00.00000000${String(n)}Z`,
      api_key: API_KEY,
      model: 'm',
      tokens: { total_tokens: 7 },
    });
  writeFileSync(file, [1, 2, 3].map(record).join('\n'));
  expect((await usage('import', file)).stderr).toContain('3 of 3');
  const backup = { ...place.environment, TOKENMIRROR_USAGE_BACKUP: name };
  expect(await runCommand(['usage', 'backup', ...words], backup)).toMatchObject({
    exitCode: 0,
    stdout: expect.stringContaining('3 requests'),
  });
  const fresh = ['--workspace', temporaryDirectory('usage-fresh'), ...words.slice(2)];
  const from = ['--from', name];
  expect((await runCommand(['usage', 'restore', ...from, ...fresh], place.environment)).stderr).toContain('3 requests came back');
  expect((await runCommand(['usage', 'restore', ...from, ...fresh], place.environment)).stderr).toContain('0 requests came back');
  expect((await runCommand(['usage', 'timeline', '--by', 'day', '--since', '2026-01-01', ...fresh])).stdout).toContain('2026-01-03');
  expect(await runCommand(['usage', 'restore', '--from', pathToFileURL(temporaryDirectory('usage-none')).href, ...fresh])).toMatchObject({
    exitCode: 6,
  });
  await place.destroy();
});
