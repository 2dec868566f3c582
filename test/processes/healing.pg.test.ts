import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  CliProxyProcess,
  DaemonProcess,
  MANAGEMENT_KEY,
  ProviderServer,
  runCommand,
  temporaryDirectory,
  until,
  type Flavour,
} from '@tokenmirror/testkit';
import { STORE_PLACES, type StorePlace } from '../store-places.js';

const NAME = 'claude-user@example.com.json';

interface Replica {
  readonly daemon: DaemonProcess;
  readonly cpa: CliProxyProcess;
}

let place: StorePlace;
let server: ProviderServer;
let replicas: Replica[];

beforeEach(async () => {
  place = await STORE_PLACES.postgres();
  server = await ProviderServer.start();
  replicas = [];
});

afterEach(async () => {
  for (const { daemon, cpa } of replicas) {
    await daemon.kill();
    await cpa.end('SIGKILL');
  }
  await server.stop();
  await place.destroy();
});

afterAll(cleanTemporaryDirectories);

async function joined(flavour: Flavour, environment: Readonly<Record<string, string>> = {}): Promise<Replica> {
  const workspace = temporaryDirectory('healing');
  const cpa = new CliProxyProcess({ flavour, workspace, proxyUrl: server.url('http'), authorityFile: server.authorityFile });
  const daemon = new DaemonProcess(workspace, ['--custody', 'on'], { ...place.environment, ...environment });
  await cpa.start();
  await daemon.start();
  replicas.push({ daemon, cpa });
  return { daemon, cpa };
}

/** A login that is far from its end. */
async function store(): Promise<string> {
  const email = 'user@example.com';
  server.provider.lifetimes.claude = 8 * 3600;
  const { access_token, refresh_token, expires_in } = server.provider.issue('claude', email);
  const instant = (ms: number): string => new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
  const expired = instant(Date.now() + expires_in * 1000);
  const fields = { type: 'claude', email, access_token, refresh_token, expired, last_refresh: instant(Date.now()), disabled: false };
  await place.foreignWrite(`auths/${NAME}`, JSON.stringify(fields));
  return access_token;
}

const accessTokenAt = ({ cpa }: Replica): unknown => cpa.credential(NAME)?.['access_token'];

describe('an access token that dies before its time', () => {
  test.each(['7.2', '6.9'] as const)('is noticed through the management API of CLIProxyAPI %s, and refreshed for all', async (flavour) => {
    const dead = await store();
    const environment = { CLIPROXY_MGMT_KEY: MANAGEMENT_KEY };
    const one = await joined(flavour, environment);
    const two = await joined('7.2');
    await until('both serve it', () => [one, two].every((replica) => accessTokenAt(replica) === dead));
    if (flavour === '7.2') await until('it is listened to', () => one.daemon.logged('management-live'));
    server.provider.kill(dead);
    expect((await one.cpa.message('claude')).status).toBe(401);
    if (flavour === '6.9') {
      await one.daemon.kill();
      await one.daemon.start();
    }
    await until('both have a new one', () => [one, two].every((replica) => ![dead, undefined].includes(accessTokenAt(replica) as string)));
    for (const { cpa } of [one, two]) await until('it serves again', async () => (await cpa.message('claude')).status === 200);
    expect(server.provider.counts).toMatchObject({ rotations: 1, reuses: 0 });
    expect(one.daemon.output).not.toContain(MANAGEMENT_KEY);
  });

  test('is refreshed by command where there is no management key', async () => {
    const dead = await store();
    const one = await joined('7.2');
    await until('it serves', () => accessTokenAt(one) === dead);
    server.provider.kill(dead);
    expect((await one.cpa.message('claude')).status).toBe(401);
    const { exitCode } = await runCommand(['custody', 'refresh', NAME, '--workspace', one.daemon.workspace], place.environment);
    expect(exitCode).toBe(0);
    await until('it serves again', async () => (await one.cpa.message('claude')).status === 200);
  });

  test('a wrong management key is told once, with what to do, and nothing else suffers', async () => {
    const alive = await store();
    const one = await joined('7.2', { CLIPROXY_MGMT_KEY: 'a wrong key' });
    await until('it is told', () => one.daemon.output.includes('management-refused'));
    await until('it serves', () => accessTokenAt(one) === alive);
    expect(one.daemon.output.split('management-refused')).toHaveLength(2);
    expect(one.daemon.output).not.toContain('a wrong key');
    expect((await one.cpa.manage('GET', '/api-keys')).status).toBe(200);
  });
});
