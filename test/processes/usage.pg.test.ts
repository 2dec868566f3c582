import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, expect, test } from '@jest/globals';
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
import { randomFrom } from '../simulation/virtual-time.js';
import { STORE_PLACES, type StorePlace } from '../store-places.js';

const STEPS = 8;
/** More schedules than usual, by their seeds: `7,8,9`. */
const SEEDS = (process.env['TOKENMIRROR_TEST_USAGE_SEEDS'] ?? '1,2').split(',').map(Number);

let place: StorePlace;
let server: ProviderServer;
let cpa: CliProxyProcess;
let daemons: DaemonProcess[];

beforeEach(async () => {
  place = await STORE_PLACES.postgres();
  server = await ProviderServer.start();
  daemons = [];
});

async function startProxy(flavour: Flavour): Promise<void> {
  cpa = new CliProxyProcess({
    flavour,
    workspace: temporaryDirectory('usage-cpa'),
    proxyUrl: server.url('http'),
    authorityFile: server.authorityFile,
  });
  const { access_token } = server.provider.issue('claude', 'user@example.com');
  const expired = new Date(Date.now() + 8 * 3_600_000).toISOString().replace(/\.\d+Z$/, 'Z');
  const fields = { type: 'claude', email: 'user@example.com', access_token, expired, disabled: false };
  writeFileSync(join(cpa.authDir, 'claude-user@example.com.json'), JSON.stringify(fields), { mode: 0o600 });
  await cpa.start();
  await cpa.end();
  await cpa.start(cpa.configText().replace('usage-statistics-enabled: false', 'usage-statistics-enabled: true'));
}

/** The same CLIProxyAPI, of another version. */
async function upgrade(flavour: Flavour): Promise<void> {
  await cpa.end();
  const { port, options } = cpa;
  cpa = new CliProxyProcess({ ...options, flavour });
  cpa.port = port;
  await cpa.restart();
}

/** Two daemons that collect from one CLIProxyAPI into one ledger. */
async function startDaemons(): Promise<void> {
  const environment = {
    ...place.environment,
    CLIPROXY_MGMT_KEY: MANAGEMENT_KEY,
    TOKENMIRROR_USAGE: 'yes',
    TOKENMIRROR_USAGE_INTERVAL: '2s',
    TOKENMIRROR_USAGE_RECOVERY_INTERVAL: '2s',
    TOKENMIRROR_CLIPROXY_URL: `http://127.0.0.1:${String(cpa.port)}`,
  };
  daemons = ['one', 'two'].map((name) => new DaemonProcess(temporaryDirectory(`usage-${name}`), [], environment));
  for (const daemon of daemons) {
    await daemon.start();
    await until('it collects', () => daemon.logged('usage-collected'));
  }
}

async function counted(): Promise<number> {
  await delay(500);
  const workspace = daemons[0]?.workspace ?? '';
  const { stdout } = await runCommand(['usage', 'top', '--by', 'model', '--json', '--workspace', workspace], place.environment);
  return (JSON.parse(stdout) as { requests: number }[]).reduce((sum, { requests }) => sum + requests, 0);
}

afterEach(async () => {
  for (const daemon of daemons) await daemon.kill();
  await cpa.end('SIGKILL');
  await server.stop();
  await place.destroy();
});

afterAll(cleanTemporaryDirectories);

test('two daemons that read one queue into one ledger lose nothing and count nothing twice, whichever of them is killed, and whenever CLIProxyAPI restarts', async () => {
  await startProxy('7.2');
  await startDaemons();
  let sent = 0;
  const send = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n += 1) if ((await cpa.message('claude')).status === 200) sent += 1;
  };
  for (const [round, daemon] of [...daemons, ...daemons].entries()) {
    await send(30);
    await daemon.kill();
    await send(10);
    await daemon.start();
    if (round !== 1) continue;
    await until('all of it is there', async () => (await counted()) === sent);
    await cpa.end();
    await cpa.restart();
  }
  await until('all of it is there', async () => (await counted()) === sent);
  expect(sent).toBe(160);
});

test.each(SEEDS)(
  'schedule %i: traffic, killed and frozen daemons, restarts and upgrades of CLIProxyAPI lose nothing and count nothing twice',
  async (seed) => {
    const random = randomFrom(seed);
    const below = (count: number): number => Math.floor(random() * count);
    await startProxy(seed % 2 === 0 ? '6.9' : '7.2');
    await startDaemons();
    let sent = 0;
    const clients = { areOver: false, arePaused: false };
    const traffic = (async () => {
      while (!clients.areOver) {
        if (clients.arePaused) await delay(10);
        else if ((await cpa.message('claude')).status === 200) sent += 1;
        await delay(below(60));
      }
    })();
    // What CLIProxyAPI has not told yet is gone with its process, whoever listens.
    const settled = async (work: () => Promise<void>): Promise<void> => {
      clients.arePaused = true;
      await delay(500);
      await until('all of it is there', async () => (await counted()) === sent);
      await work();
      clients.arePaused = false;
    };
    const steps: (() => Promise<void>)[] = [
      async () => {
        const daemon = daemons[below(2)];
        await daemon?.kill();
        await delay(below(2000));
        await daemon?.start();
      },
      async () => {
        const daemon = daemons[below(2)];
        daemon?.freeze();
        await delay(below(4000));
        daemon?.resume();
      },
      () => settled(() => cpa.end().then(() => cpa.restart())),
      () => settled(() => upgrade('7.2')),
    ];
    try {
      for (let step = 0; step < STEPS; step += 1) {
        await delay(below(3000));
        await steps[below(steps.length)]?.();
      }
    } finally {
      clients.areOver = true;
      await traffic;
    }
    await until('all of it is there', async () => (await counted()) === sent);
    expect(sent).toBeGreaterThan(STEPS);
  },
);
