import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { ManagementClient } from '@tokenmirror/cliproxy-client';
import { silentLog, type Clock } from '@tokenmirror/core';
import { Database } from '@tokenmirror/database';
import { KEY_SCHEMA, KeyRegistry, type KeyTables } from '@tokenmirror/key-expiry';
import {
  API_KEY,
  cleanTemporaryDirectories,
  CliProxyProcess,
  FaultProxy,
  MANAGEMENT_KEY,
  ProviderServer,
  temporaryDirectory,
  until,
  type Fact,
  type Flavour,
} from '@tokenmirror/testkit';
import { Ledger, Questions, Spool, USAGE_SCHEMA, UsageCollector, type UsageTables } from '../src/index.js';

const DAY = 86_400_000;

let ahead: number;
let server: ProviderServer;
let cpa: CliProxyProcess;
let registry: KeyRegistry;
let ledger: Ledger;
let questions: Questions;
let spoolAt: string;
/** Where CLIProxyAPI is asked, if not directly. */
let address: string | undefined;
let closers: (() => unknown)[];

const clock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now() + ahead,
  after: (ms, callback) => {
    const timer = setTimeout(callback, Math.min(ms, 1000));
    return () => {
      clearTimeout(timer);
    };
  },
};

beforeEach(async () => {
  ahead = 0;
  closers = [];
  address = undefined;
  server = await ProviderServer.start();
  const file = join(temporaryDirectory('usage'), 'companions.db');
  spoolAt = join(temporaryDirectory('usage-spool'), 'spool');
  registry = await KeyRegistry.open({
    database: await Database.open<KeyTables>({ kind: 'embedded', file }, KEY_SCHEMA),
    clock,
    secrets: [],
  });
  const database = await Database.open<UsageTables>({ kind: 'embedded', file }, USAGE_SCHEMA);
  ledger = new Ledger({ database, registry, clock, keepEventsMs: 35 * DAY, keepHoursMs: 366 * DAY });
  questions = new Questions({ ledger, registry, clock, prices: undefined });
});

afterEach(async () => {
  for (const close of closers.reverse()) await close();
  await registry.close();
  await ledger.database.close();
  await cpa.end('SIGKILL');
  await server.stop();
});

afterAll(cleanTemporaryDirectories);

async function start(
  flavour: Flavour,
  without: readonly Fact[] = [],
  workspace = temporaryDirectory('usage-cpa'),
  isOn = true,
): Promise<void> {
  cpa = new CliProxyProcess({ flavour, workspace, without, proxyUrl: server.url('http'), authorityFile: server.authorityFile });
  const { access_token, refresh_token } = server.provider.issue('claude', 'user@example.com');
  const { writeFileSync } = await import('node:fs');
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
  writeFileSync(join(cpa.authDir, 'claude-user@example.com.json'), JSON.stringify(fields), { mode: 0o600 });
  cpa.port = 0;
  await cpa.start();
  if (!isOn) return;
  await cpa.end();
  await cpa.start(cpa.configText().replace('usage-statistics-enabled: false', 'usage-statistics-enabled: true'));
}

function collect(more: Partial<{ turnsOn: boolean }> = {}): UsageCollector {
  const refused = new Set<string>();
  const refusedKeys = { has: (id: string) => refused.has(id), add: (id: string) => void refused.add(id) };
  const client = new ManagementClient({
    target: () => ({ url: new URL(address ?? `http://127.0.0.1:${String(cpa.port)}`), key: MANAGEMENT_KEY, secret: '' }),
    clock,
    refusedKeys,
  });
  const collector = new UsageCollector({
    origin: 'here',
    client,
    ledger: () => ledger,
    spool: new Spool(spoolAt),
    clock,
    random: Math.random,
    log: silentLog,
    snapshotMs: 500,
    recoveryMs: 500,
    turnsOn: false,
    crossed: () => undefined,
    changed: () => undefined,
    ...more,
  });
  closers.push(async () => {
    await collector.stop();
    client.close();
  });
  collector.start();
  return collector;
}

async function closedDatabase(): Promise<Database<UsageTables>> {
  const file = join(temporaryDirectory('usage'), 'companions.db');
  const database = await Database.open<UsageTables>({ kind: 'embedded', file }, USAGE_SCHEMA);
  await database.close();
  return database;
}

async function requests(count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) expect((await cpa.message('claude')).status).toBe(200);
}

const counted = async (): Promise<number> => (await questions.total(0)).requests;
const has = (count: number) => async (): Promise<boolean> => (await counted()) === count;

describe.each([
  ['resp-queue', 'of 7.2', '7.2', []],
  ['resp-queue', 'of 6.10.0', '7.2', ['usage-subscribe', 'usage-queue-http']],
  ['http-queue', 'of 7.2 behind a proxy that knows HTTP only', '7.2', []],
  ['snapshot', 'of 6.9', '6.9', []],
] as const)('by %s %s', (how, _, flavour, without) => {
  test('everything is collected once, from before the start and after it, over restarts of both sides', async () => {
    await start(flavour, without);
    if (how === 'http-queue') {
      const front = await FaultProxy.before(`http://127.0.0.1:${String(cpa.port)}`);
      closers.push(() => front.close());
      address = front.url;
    }
    await requests(3);
    const first = collect();
    await until('it is known how', () => first.report.how === how);
    await until('what came before is there', has(3));
    await requests(4);
    await until('what came after is there', has(7));
    await first.stop();
    await requests(2);
    const second = collect();
    await until('what came between is there', has(9));
    await cpa.end();
    await cpa.restart();
    await until('it answers', async () => (await cpa.http('GET', '/')).status === 200);
    await requests(1);
    await until('what came after a restart is there', has(10));
    expect((await questions.top('key', 0))[0]).toMatchObject({ requests: 10, failed: 0, total: 100 });
    await until('nothing is wrong any more', () => second.report.problem === undefined);
  });
});

describe('in the snapshot era', () => {
  const live = async (): Promise<number> =>
    (JSON.parse((await cpa.manage('GET', '/usage/export')).text) as { usage: { total_requests: number } }).usage.total_requests;

  test('incident 26 and 30: statistics come back after a restart, also when there was traffic before that, and nothing is counted twice', async () => {
    await start('6.9');
    const collector = collect();
    await requests(5);
    await until('they are collected', has(5));
    await cpa.end('SIGKILL');
    await cpa.restart();
    await requests(1);
    await until('they are back', async () => (await live()) === 6);
    await until('the new one is there', has(6));
    expect(collector.report.restored).toBe(5);
    await cpa.end('SIGKILL');
    await cpa.restart();
    await until('they are back again', async () => (await live()) === 6);
    expect(await counted()).toBe(6);
  });

  test('a ledger that cannot be used is told, for as long as that is so', async () => {
    await start('6.9');
    const kept = ledger;
    ledger = new Ledger({ database: await closedDatabase(), registry, clock, keepEventsMs: DAY, keepHoursMs: DAY });
    const collector = collect();
    await until('it is told', () => collector.report.problem?.reason.startsWith('usage cannot be kept') === true);
    ledger = kept;
    await until('it is over', () => collector.report.problem === undefined);
    await requests(1);
    await until('it is collected', has(1));
  });

  test('an upgrade into the queue era in the middle loses nothing', async () => {
    const workspace = temporaryDirectory('usage-upgrade');
    await start('6.9', [], workspace);
    const collector = collect();
    await requests(3);
    await until('they are collected', has(3));
    const { port } = cpa;
    await cpa.end();
    cpa = new CliProxyProcess({ flavour: '7.2', workspace, proxyUrl: server.url('http'), authorityFile: server.authorityFile });
    cpa.port = port;
    await cpa.restart();
    await requests(2);
    await until('the other era is noticed', () => collector.report.how === 'resp-queue');
    await requests(2);
    await until('all of it is there', has(7));
  });
});

test('recording that is off is told, and turned on where that is wanted', async () => {
  await start('7.2', [], undefined, false);
  const watching = collect();
  await until('it is told', () => watching.report.isRecorded === false);
  await watching.stop();
  const turning = collect({ turnsOn: true });
  await until('it is on', () => turning.report.isRecorded === true);
  await until('requests are told', async () => {
    await requests(1);
    return (await counted()) > 0;
  });
});

test('a database that does not take it costs nothing: it waits on the disk, over a crash too', async () => {
  await start('7.2');
  await ledger.database.close();
  const collector = collect();
  await until('it listens', () => collector.report.how === 'resp-queue');
  await requests(4);
  await until('it is told', () => collector.report.problem !== undefined);
  const file = join(temporaryDirectory('usage'), 'companions.db');
  await registry.close();
  registry = await KeyRegistry.open({
    database: await Database.open<KeyTables>({ kind: 'embedded', file }, KEY_SCHEMA),
    clock,
    secrets: [],
  });
  const database = await Database.open<UsageTables>({ kind: 'embedded', file }, USAGE_SCHEMA);
  ledger = new Ledger({ database, registry, clock, keepEventsMs: DAY, keepHoursMs: DAY });
  questions = new Questions({ ledger, registry, clock, prices: undefined });
  collect();
  await until('it is there', has(4));
});

test('what another reader takes out of the queue is told', async () => {
  await start('7.2', ['usage-subscribe']);
  const collector = collect();
  await requests(1);
  await until('it collects', has(1));
  ahead += 61_000;
  await collector.collectNow();
  await requests(3);
  expect(JSON.parse((await cpa.manage('GET', '/usage-queue?count=2')).text)).toHaveLength(2);
  for (let n = 0; n < 3; n += 1) {
    ahead += 61_000;
    await collector.collectNow();
  }
  expect(await counted()).toBe(2);
  expect(collector.report.lost).toBe(2);
  expect(await ledger.losses()).toMatchObject([{ origin: 'here', kind: 'lost' }]);
});

test('somebody who subscribes starves the queue: that is noticed, told, and answered by subscribing, too', async () => {
  await start('7.2');
  const collector = collect();
  await requests(1);
  await until('it collects', has(1));
  const other = await cpa.listen('usage');
  ahead += 61_000;
  await collector.collectNow();
  await requests(2);
  for (let n = 0; n < 2; n += 1) {
    ahead += 61_000;
    await collector.collectNow();
  }
  expect(collector.report.lost).toBe(2);
  await until('it subscribes', () => collector.report.how === 'subscription');
  await requests(3);
  await until('it hears again', has(4));
  other.close();
  await requests(2);
  await until('and goes on', has(6));
});

test('failed requests are counted as such', async () => {
  await start('7.2');
  const collector = collect();
  await until('it listens', () => collector.report.how === 'resp-queue');
  server.provider.kill(String(cpa.credential('claude-user@example.com.json')?.['access_token']));
  const { status } = await cpa.message('claude', API_KEY);
  await until('it is there', async () => (await counted()) > 0);
  expect(await questions.total(0)).toMatchObject({ failed: status === 200 ? 0 : 1 });
});
