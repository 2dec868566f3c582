import { afterAll, afterEach, beforeEach, expect, test } from '@jest/globals';
import {
  API_KEY,
  cleanTemporaryDirectories,
  CliProxyProcess,
  DaemonProcess,
  MANAGEMENT_KEY,
  runCommand,
  temporaryDirectory,
  until,
} from '@tokenmirror/testkit';
import { STORE_PLACES, type StorePlace } from '../store-places.js';

interface Replica {
  readonly workspace: string;
  readonly daemon: DaemonProcess;
  readonly cpa: CliProxyProcess;
}

let place: StorePlace;
let replicas: Replica[];

beforeEach(async () => {
  place = await STORE_PLACES.postgres();
  replicas = [];
});

afterEach(async () => {
  for (const { daemon, cpa } of replicas) {
    await daemon.kill();
    await cpa.end('SIGKILL');
  }
  await place.destroy();
});

afterAll(cleanTemporaryDirectories);

const environment = (): Readonly<Record<string, string>> => ({ ...place.environment, CLIPROXY_MGMT_KEY: MANAGEMENT_KEY });

/** Three CLIProxyAPIs that share their config and one registry of keys. */
async function three(): Promise<void> {
  for (const flavour of ['7.2', '6.9', '7.2'] as const) {
    const workspace = temporaryDirectory('keys');
    const cpa = new CliProxyProcess({ flavour, workspace });
    await cpa.start();
    const daemon = new DaemonProcess(workspace, [], environment());
    replicas.push({ workspace, daemon, cpa });
    await daemon.start();
  }
}

const keys = (args: readonly string[], at = 0) =>
  runCommand(['keys', ...args, '--workspace', replicas[at]?.workspace ?? ''], environment());

async function answersOf(key: string): Promise<number[]> {
  return Promise.all(replicas.map(async ({ cpa }) => (await cpa.http('GET', '/v1/models', { authorization: `Bearer ${key}` })).status));
}

async function lists(): Promise<string[]> {
  const texts = await Promise.all(replicas.map(async ({ cpa }) => (await cpa.manage('GET', '/api-keys')).text));
  return texts.map((text) =>
    JSON.stringify((JSON.parse(text) as { 'api-keys': string[] })['api-keys'].filter((key) => !key.startsWith('sk-tokenmirror-closed-'))),
  );
}

const everywhere = (key: string, status: number) => async (): Promise<boolean> =>
  (await answersOf(key)).every((answer) => answer === status);

/** Nothing is written any more, by nobody. */
async function comesToRest(): Promise<void> {
  let head = await place.head();
  let since = Date.now();
  await until('nothing is written any more', async () => {
    const now = await place.head();
    if (now !== head) since = Date.now();
    head = now;
    return Date.now() - since > 5000;
  });
}

test('one registry and a mirrored config do not fight: a key comes, goes and stays away at every replica, and then all is quiet', async () => {
  await three();
  const added = await keys(['add', '--owner', 'me@example.com']);
  expect(added.exitCode).toBe(0);
  const key = added.stdout.trim();
  await until('it is let in everywhere', everywhere(key, 200));
  const second = (await keys(['add'], 1)).stdout.trim();
  await until('so is one that another replica registered', everywhere(second, 200));
  await replicas[2]?.cpa.manage('PATCH', '/api-keys', { old: 'sk-of-an-operator', new: 'sk-of-an-operator' });
  await until('a key that an operator adds travels with the config', everywhere('sk-of-an-operator', 200));
  await comesToRest();
  const [first, ...others] = await lists();
  expect(new Set(others)).toEqual(new Set([first]));
  expect((JSON.parse(first ?? '[]') as string[]).sort()).toEqual([API_KEY, key, second, 'sk-of-an-operator'].sort());
  await keys(
    ['delete', (JSON.parse((await keys(['list', '--json'])).stdout) as { items: { id: string }[] }).items[0]?.id ?? '', '--yes'],
    2,
  );
  await until('it is kept out everywhere', everywhere(key, 401));
  await comesToRest();
  expect(await answersOf(key)).toEqual([401, 401, 401]);
  expect(await answersOf('sk-of-an-operator')).toEqual([200, 200, 200]);
});

test('a term ends at every replica, and an old config that comes back later does not revive the key', async () => {
  await three();
  const key = (await keys(['add', '--term', '6s'])).stdout.trim();
  await until('it is let in everywhere', everywhere(key, 200));
  const [away] = replicas;
  await away?.daemon.kill();
  await until('it is kept out at the others', async () => (await answersOf(key)).slice(1).every((status) => status === 401));
  expect(await answersOf(key)).toEqual([200, 401, 401]);
  await away?.daemon.start();
  await until('it is kept out here, too', everywhere(key, 401));
  await comesToRest();
  expect(await answersOf(key)).toEqual([401, 401, 401]);
});
