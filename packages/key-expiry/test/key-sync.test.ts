import { chmodSync, readFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { ManagementClient } from '@tokenmirror/cliproxy-client';
import { silentLog, type Clock } from '@tokenmirror/core';
import {
  API_KEY,
  cleanTemporaryDirectories,
  CliProxyProcess,
  MANAGEMENT_KEY,
  temporaryDirectory,
  until,
  type Flavour,
} from '@tokenmirror/testkit';
import { isSentinel, KeyKeeper, KeySync, WantedSource, type KeyRegistry } from '../src/index.js';
import { countUse, openRegistry, REGISTRY_PLACES } from './registry-places.js';

/** A change of the file's rights makes CLIProxyAPI read it again. */
const CONFIG_SETTLES_MS = 1000;
const NEVER = { kind: 'never' } as const;

let ahead: number;
let cpa: CliProxyProcess;
let registry: KeyRegistry;
let client: ManagementClient;
let sync: KeySync;
let closers: (() => void)[];

const clock: Clock = {
  now: () => Date.now() + ahead,
  monotonic: () => performance.now(),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => {
      clearTimeout(timer);
    };
  },
};

async function start(flavour: Flavour = '7.2'): Promise<void> {
  cpa = new CliProxyProcess({ flavour, workspace: temporaryDirectory('key-sync') });
  await cpa.start();
  const refused = new Set<string>();
  const refusedKeys = { has: (id: string) => refused.has(id), add: (id: string) => void refused.add(id) };
  const url = new URL(`http://127.0.0.1:${String(cpa.port)}`);
  client = new ManagementClient({ target: () => ({ url, key: MANAGEMENT_KEY, secret: '' }), clock, refusedKeys });
  sync = new KeySync({ registry, wanted: new WantedSource(registry, clock), client, clock, target: 'here' });
}

function keep(): KeyKeeper {
  const keeper = new KeyKeeper({
    registry,
    wanted: new WantedSource(registry, clock),
    syncs: [sync],
    clock,
    log: silentLog,
    intervalMs: 30_000,
    remindMs: 1000,
    changed: () => undefined,
  });
  keeper.start();
  closers.push(() => {
    keeper.stop();
  });
  return keeper;
}

beforeEach(async () => {
  ahead = 0;
  closers = [];
  registry = await openRegistry((await REGISTRY_PLACES.embedded()).place, clock);
});

afterEach(async () => {
  for (const close of closers) close();
  client.close();
  await registry.close();
  await cpa.end('SIGKILL');
});

afterAll(cleanTemporaryDirectories);

const add = (term: Parameters<KeyRegistry['add']>[1]['term'] = NEVER) => registry.add('test', { owner: 'a@example.com', term });
const models = async (key: string | undefined): Promise<number> =>
  (await cpa.http('GET', '/v1/models', key === undefined ? {} : { authorization: `Bearer ${key}` })).status;
const all = async (): Promise<string[]> =>
  (JSON.parse((await cpa.manage('GET', '/api-keys')).text) as { 'api-keys': string[] | null })['api-keys'] ?? [];
const listed = async (): Promise<string[]> => (await all()).filter((key) => !isSentinel(key));
const isLetIn = (key: string) => async (): Promise<boolean> => (await models(key)) === 200;
const isKeptOut = (key: string) => async (): Promise<boolean> => (await models(key)) === 401;

describe.each(['7.2', '6.9'] as const)('beside CLIProxyAPI %s', (flavour) => {
  test('a key is let in, and kept out when its term ends, long before the next look; the keys of the operator stay', async () => {
    await start(flavour);
    const keeper = keep();
    const { key, record } = await add({ kind: 'after', ms: 4000 });
    await until('it is let in', isLetIn(key));
    await until('it is kept out', isKeptOut(key));
    expect(clock.now()).toBeGreaterThanOrEqual(record.expiresAt ?? Infinity);
    expect(await listed()).toEqual([API_KEY]);
    expect(keeper.report.targets).toMatchObject([{ target: 'here', foreign: ['sk-…ts'], problem: undefined }]);
  });

  test('the last key ends, and at no instant is everybody let in', async () => {
    await start(flavour);
    await registry.adopt('test', [API_KEY], { owner: '', term: { kind: 'after', ms: 3500 } });
    keep();
    const seen = new Set<number>();
    const isOver = { yet: false };
    const strangers = (async () => {
      while (!isOver.yet) seen.add(await models(undefined));
    })();
    await until('it is kept out', isKeptOut(API_KEY));
    await delay(500);
    isOver.yet = true;
    await strangers;
    expect([...seen]).toEqual([401]);
    expect((await all()).every(isSentinel)).toBe(true);
    const { key } = await add();
    await until('a new one is let in', isLetIn(key));
    expect(await listed()).toEqual([key]);
  });
});

test('a registry without keys touches nothing, not even an open proxy', async () => {
  await start();
  await cpa.end();
  await cpa.start(cpa.configText('', MANAGEMENT_KEY, []));
  const before = readFileSync(cpa.configFile, 'utf8');
  expect((await sync.run()).status).toBe('idle');
  expect(readFileSync(cpa.configFile, 'utf8')).toBe(before);
  const { key } = await add();
  expect((await sync.run()).status).toBe('synced');
  expect(await listed()).toEqual([key]);
});

test('a dry run changes nothing, and says what a run would do', async () => {
  await start();
  const { key } = await add();
  const outcome = await sync.plan();
  expect(outcome.status === 'synced' ? outcome.plan.added.filter((each) => !isSentinel(each)) : undefined).toEqual([key]);
  expect(await listed()).toEqual([API_KEY]);
});

test('what others add meanwhile stays, at a few changes and at many', async () => {
  await start();
  for (const many of [1, 30]) {
    for (let n = 0; n < many; n += 1) await add();
    const others = Array.from({ length: 5 }, (_, n) => `sk-somebody-else-${String(many)}-${String(n)}`);
    const adding = (async () => {
      for (const other of others) await cpa.manage('PATCH', '/api-keys', { old: other, new: other });
    })();
    const outcome = await sync.run();
    await adding;
    expect(outcome.status).toBe('synced');
    if (many === 1) expect(await listed()).toEqual(expect.arrayContaining([...others, API_KEY]));
  }
  const outcome = await sync.run();
  expect(outcome.status).toBe('synced');
  expect(await listed()).toHaveLength(31 + (outcome.status === 'synced' ? outcome.plan.foreign.length : 0));
});

test('what somebody takes out by hand is put back, and what an old config brings back is taken out again', async () => {
  await start();
  const [one, two] = [await add(), await add()];
  await sync.run();
  await registry.delete('test', two.record.id);
  await sync.run();
  await cpa.manage('PUT', '/api-keys', [API_KEY, two.key]);
  const outcome = await sync.run();
  if (outcome.status !== 'synced') throw new Error(outcome.status);
  expect(outcome.plan).toMatchObject({ putBack: [one.record.id], cameBack: [two.record.id] });
  expect(await listed()).toEqual([API_KEY, one.key]);
});

test('a CLIProxyAPI that is down for a while gets its keys when it is back, also those that were changed just before a crash of ours', async () => {
  await start();
  const { key } = await add();
  await cpa.end();
  expect(await sync.run()).toMatchObject({ status: 'failed', refusal: { kind: 'unreachable' } });
  expect((await registry.targets.list())[0]?.problem).toMatch(/does not answer/);
  await cpa.restart();
  const afterCrash = new KeySync({ registry, wanted: new WantedSource(registry, clock), client, clock, target: 'here' });
  expect((await afterCrash.run()).status).toBe('synced');
  expect(await models(key)).toBe(200);
  expect((await registry.targets.list())[0]).toMatchObject({ problem: undefined, revision: await registry.revision() });
});

test('a wrong management key is tried once, however often the sync runs', async () => {
  await start();
  await cpa.end();
  await cpa.start(cpa.configText('', 'another secret altogether'));
  await add();
  for (let n = 0; n < 6; n += 1) expect(await sync.run()).toMatchObject({ status: 'failed', refusal: { kind: 'wrong-key' } });
  for (let n = 0; n < 3; n += 1) expect((await cpa.manage('GET', '/api-keys', undefined, 'a second guess')).status).toBe(401);
  expect((await cpa.manage('GET', '/api-keys', undefined, 'another secret altogether')).status).toBe(200);
});

test('keys that CLIProxyAPI took over and could not save are told, and saved as soon as it can', async () => {
  await start();
  const { key } = await add();
  chmodSync(cpa.configFile, 0o444);
  await delay(CONFIG_SETTLES_MS);
  expect(await sync.run()).toMatchObject({ status: 'failed', reason: expect.stringContaining('cannot save') });
  expect(await models(key)).toBe(200);
  chmodSync(cpa.configFile, 0o644);
  expect((await sync.run()).status).toBe('synced');
  expect(readFileSync(cpa.configFile, 'utf8')).toContain(key);
});

test('a clock that jumps ahead ends what is over, and one that jumps back revives it', async () => {
  await start();
  keep();
  const { key } = await add({ kind: 'after', ms: 3_600_000 });
  await until('it is let in', isLetIn(key));
  ahead = 3_601_000;
  await until('it is kept out', isKeptOut(key));
  ahead = 0;
  await registry.describe('test', (await registry.list({ filter: 'all' })).items[0]?.id ?? '', { note: 'the clock is right again' });
  await until('it is let in again', isLetIn(key));
});

test('a quota that is used up closes the key, and its next window opens it', async () => {
  await start();
  keep();
  const { key } = await registry.add('test', { owner: '', term: NEVER, quota: { unit: 'requests', limit: 2, per: 'hour' } });
  await until('it is let in', isLetIn(key));
  await countUse(registry, { key, at: clock.now(), requests: 2, tokens: 0 });
  await until('it is kept out', isKeptOut(key));
  ahead = 3_600_000;
  await until('it is let in again', isLetIn(key));
});

test('an operator who takes the last foreign key out while ours ends opens nothing', async () => {
  await start();
  const { key } = await add({ kind: 'after', ms: 1500 });
  await sync.run();
  await cpa.manage('PUT', '/api-keys', [API_KEY, key, ...(await all()).filter(isSentinel)]);
  await cpa.manage('DELETE', `/api-keys?value=${API_KEY}`);
  await until('it has ended', async () => {
    await sync.run();
    return (await models(key)) === 401;
  });
  expect(await models(undefined)).toBe(401);
});

test('a key ends in time although the database of the registry is out of reach', async () => {
  await start();
  keep();
  const { key } = await add({ kind: 'after', ms: 3000 });
  await until('it is let in', isLetIn(key));
  await registry.close();
  await until('it is kept out', isKeptOut(key));
  registry = await openRegistry((await REGISTRY_PLACES.embedded()).place, clock);
});

test('who asks for a sync while the registry is out of reach is told so', async () => {
  await start();
  const keeper = keep();
  const { key } = await add({ kind: 'never' });
  await until('it is let in', isLetIn(key));
  await registry.close();
  await expect(keeper.syncNow()).rejects.toThrow();
  await until('and it is reported', () => keeper.report.problem !== undefined);
  registry = await openRegistry((await REGISTRY_PLACES.embedded()).place, clock);
});

test('a target that does not answer keeps no other waiting', async () => {
  await start();
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => void sockets.add(socket));
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const url = new URL(`http://127.0.0.1:${String((silent.address() as AddressInfo).port)}`);
  const dead = new ManagementClient({
    target: () => ({ url, key: 'x', secret: '' }),
    clock,
    refusedKeys: { has: () => false, add: () => undefined },
  });
  const wanted = new WantedSource(registry, clock);
  const syncs = [new KeySync({ registry, wanted, client: dead, clock, target: 'dead' }), sync];
  const keeper = new KeyKeeper({
    registry,
    wanted,
    syncs,
    clock,
    log: silentLog,
    intervalMs: 30_000,
    remindMs: 1000,
    changed: () => undefined,
  });
  keeper.start();
  closers.push(() => {
    keeper.stop();
    dead.close();
    silent.close();
    for (const socket of sockets) socket.destroy();
  });
  const { key } = await add({ kind: 'after', ms: 3000 });
  await until('it is let in', isLetIn(key));
  await until('it is kept out', isKeptOut(key));
  expect(keeper.report.targets.find(({ target }) => target === 'dead')?.syncedAt).toBeUndefined();
});
