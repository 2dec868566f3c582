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
} from '@tokenmirror/testkit';
import { STORE_PLACES, type StorePlace } from '../store-places.js';

let place: StorePlace;
let server: ProviderServer;
let cpa: CliProxyProcess;
let daemons: DaemonProcess[];

beforeEach(async () => {
  place = await STORE_PLACES.postgres();
  server = await ProviderServer.start();
  cpa = new CliProxyProcess({
    flavour: '7.2',
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
  daemons = [];
});

afterEach(async () => {
  for (const daemon of daemons) await daemon.kill();
  await cpa.end('SIGKILL');
  await server.stop();
  await place.destroy();
});

afterAll(cleanTemporaryDirectories);

test('two daemons that read one queue into one ledger lose nothing and count nothing twice, whichever of them is killed, and whenever CLIProxyAPI restarts', async () => {
  const environment = {
    ...place.environment,
    CLIPROXY_MGMT_KEY: MANAGEMENT_KEY,
    TOKENMIRROR_USAGE: 'yes',
    TOKENMIRROR_CLIPROXY_URL: `http://127.0.0.1:${String(cpa.port)}`,
  };
  daemons = ['one', 'two'].map((name) => new DaemonProcess(temporaryDirectory(`usage-${name}`), [], environment));
  for (const daemon of daemons) {
    await daemon.start();
    await until('it collects', () => daemon.logged('usage-collected'));
  }
  const workspace = daemons[0]?.workspace ?? '';
  const counted = async (): Promise<number> => {
    await delay(500);
    const { stdout } = await runCommand(['usage', 'top', '--by', 'model', '--json', '--workspace', workspace], place.environment);
    return (JSON.parse(stdout) as { requests: number }[]).reduce((sum, { requests }) => sum + requests, 0);
  };
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
