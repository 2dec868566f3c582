import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { setTimeout as delay } from 'node:timers/promises';
import { cleanTemporaryDirectories, CliProxyProcess, freePort, MANAGEMENT_KEY, temporaryDirectory, until } from '@tokenmirror/testkit';
import type { Clock } from '@tokenmirror/core';
import { ERRORS_CHANNEL, explain, ManagementClient, readAuthFiles, Subscription, type RefusedKeys } from '../src/index.js';

let ahead: number;
let cpa: CliProxyProcess;
let remembered: Set<string>;
let closers: (() => void)[];

/** The real clock, which a test may put forward. */
const clock: Clock = {
  now: () => Date.now() + ahead,
  monotonic: () => performance.now() + ahead,
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => {
      clearTimeout(timer);
    };
  },
};
const refusedKeys: RefusedKeys = {
  has: (id) => remembered.has(id),
  add: (id) => void remembered.add(id),
};

function clientWith(key: string, { secret = 'hashed', port = cpa.port } = {}): ManagementClient {
  const url = new URL(`http://127.0.0.1:${String(port)}`);
  const client = new ManagementClient({ target: () => ({ url, key, secret }), clock, refusedKeys });
  closers.push(() => {
    client.close();
  });
  return client;
}

function subscriptionOf(client: ManagementClient): Subscription {
  const subscription = new Subscription({
    client,
    channel: ERRORS_CHANNEL,
    clock,
    random: Math.random,
    live: () => undefined,
    message: () => undefined,
  });
  closers.push(() => {
    subscription.stop();
  });
  subscription.start();
  return subscription;
}

/** How many more failures the proxy takes before it bans this address. */
async function failuresLeft(): Promise<number> {
  for (let n = 0; n < 6; n += 1) if ((await cpa.manage('GET', '/api-keys', undefined, 'another wrong key')).status === 403) return n;
  return 6;
}

beforeEach(() => {
  ahead = 0;
  remembered = new Set();
  closers = [];
  cpa = new CliProxyProcess({ flavour: '7.2', workspace: temporaryDirectory('management') });
});

afterEach(async () => {
  for (const close of closers) close();
  await cpa.end('SIGKILL');
  cleanTemporaryDirectories();
});

describe('a wrong management key', () => {
  beforeEach(() => cpa.start());

  test('is tried once, by calls and channels together, and not again by the next process', async () => {
    const client = clientWith('wrong');
    const subscription = subscriptionOf(client);
    const outcomes = await Promise.all([1, 2, 3].map(() => readAuthFiles(client)));
    for (const outcome of outcomes) expect(outcome).toEqual({ ok: false, refusal: { kind: 'wrong-key' } });
    await until('the channel is given up', () => subscription.state === 'refused');
    expect(await readAuthFiles(clientWith('wrong'))).toEqual({ ok: false, refusal: { kind: 'wrong-key' } });
    expect(await failuresLeft()).toBe(4);
  });

  test('is tried again when the secret in the config changes, and another key at once', async () => {
    expect((await readAuthFiles(clientWith('wrong'))).ok).toBe(false);
    expect((await readAuthFiles(clientWith('wrong', { secret: 'another' }))).ok).toBe(false);
    expect((await readAuthFiles(clientWith(MANAGEMENT_KEY))).ok).toBe(true);
    expect(await failuresLeft()).toBe(5);
  });

  test('never stands in what is said of it', async () => {
    const outcome = await readAuthFiles(clientWith('wrong-and-secret'));
    expect(outcome.ok ? '' : JSON.stringify(explain(outcome.refusal))).not.toContain('wrong-and-secret');
    expect([...remembered].join()).not.toContain('wrong-and-secret');
  });
});

test('a ban is waited out, without asking meanwhile', async () => {
  await cpa.start();
  expect(await failuresLeft()).toBe(5);
  const client = clientWith(MANAGEMENT_KEY);
  expect(await readAuthFiles(client)).toMatchObject({ ok: false, refusal: { kind: 'banned' } });
  await cpa.end('SIGKILL');
  ahead = 25 * 60_000;
  expect(await readAuthFiles(client)).toMatchObject({ ok: false, refusal: { kind: 'banned' } });
  await cpa.restart();
  ahead = 31 * 60_000;
  expect((await readAuthFiles(client)).ok).toBe(true);
});

describe('a 404', () => {
  test('of everything: there is no management secret', async () => {
    cpa.port = await freePort();
    await cpa.start(cpa.configText('', ''));
    expect(await readAuthFiles(clientWith(MANAGEMENT_KEY))).toEqual({ ok: false, refusal: { kind: 'off' } });
  });

  test('of one call, and of one thing, are told apart', async () => {
    await cpa.start();
    const client = clientWith(MANAGEMENT_KEY);
    expect(await client.call({ method: 'GET', path: '/no-such-call' })).toEqual({ ok: false, refusal: { kind: 'no-such-call' } });
    expect(await client.call({ method: 'GET', path: '/auth-files/download?name=none.json' })).toEqual({
      ok: false,
      refusal: { kind: 'not-found' },
    });
    expect(client.version).toMatch(/^\d+\./);
  });
});

test('a proxy that is away is unreachable, and asked again when it is back', async () => {
  await cpa.start();
  await cpa.end();
  const client = clientWith(MANAGEMENT_KEY);
  expect(await readAuthFiles(client)).toMatchObject({ ok: false, refusal: { kind: 'unreachable', reason: 'ECONNREFUSED' } });
  await cpa.restart();
  expect((await readAuthFiles(client)).ok).toBe(true);
});

test('what was rejected is told with its reason, and not sent twice', async () => {
  await cpa.start();
  const outcome = await clientWith(MANAGEMENT_KEY).call({ method: 'PUT', path: '/api-keys', body: { items: [] } });
  expect(outcome).toEqual({ ok: false, refusal: { kind: 'rejected', status: 400, reason: 'invalid body' } });
});

describe('the channel of failed requests', () => {
  test('is listened to where it is, again after a restart', async () => {
    await cpa.start();
    const subscription = subscriptionOf(clientWith(MANAGEMENT_KEY));
    await until('it is live', () => subscription.state === 'live');
    await cpa.end('SIGKILL');
    await until('it is not', () => subscription.state !== 'live');
    await cpa.restart();
    await until('it is live again', () => subscription.state === 'live');
  });

  test('is said to be absent where the version does not have it', async () => {
    cpa = new CliProxyProcess({ flavour: '6.9', workspace: temporaryDirectory('management') });
    await cpa.start();
    const subscription = subscriptionOf(clientWith(MANAGEMENT_KEY));
    await until('it is absent', () => subscription.state === 'absent');
    await delay(100);
    expect(subscription.state).toBe('absent');
  });
});
