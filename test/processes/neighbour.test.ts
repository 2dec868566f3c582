import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
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

let cpa: CliProxyProcess;
let daemon: DaemonProcess;
let store: string;

beforeEach(() => {
  const workspace = temporaryDirectory('neighbour');
  store = `file://${join(temporaryDirectory('store'), 'store')}`;
  cpa = new CliProxyProcess({ flavour: '6.9', workspace });
  daemon = new DaemonProcess(workspace, ['--store', store]);
});

afterEach(async () => {
  await Promise.all([daemon.kill(), cpa.end('SIGKILL')]);
});

afterAll(cleanTemporaryDirectories);

const status = () => runCommand(['status', '--workspace', daemon.workspace, '--store', store]);
const logged = (event: string) => until(event, () => daemon.logged(event));

test('status says whether CLIProxyAPI answers, and no secret is in what is kept of it', async () => {
  await cpa.start();
  await daemon.start();
  await logged('cliproxy-answers');
  await until('status shows it', async () => (await status()).stdout.includes(`answers at http://127.0.0.1:${String(cpa.port)}/ (6.x`));
  await cpa.end();
  await logged('cliproxy-silent');
  await until('status shows it', async () => (await status()).stdout.includes('does not answer at'));
  expect(daemon.output + (await status()).stdout).not.toContain(API_KEY);
});

test('incident 36: a proxy that serves everyone is found out', async () => {
  await cpa.start();
  writeFileSync(cpa.configFile, cpa.configText('', MANAGEMENT_KEY, []));
  await daemon.start();
  await logged('cliproxy-open');
  await until('status shows it', async () => (await status()).stdout.includes('it serves everyone'));
  expect((await status()).exitCode).toBe(1);
});

test('incident 43: a watch that was lost by a rename over the config is found out', async () => {
  await cpa.start();
  await daemon.start();
  await logged('cliproxy-answers');
  writeFileSync(`${cpa.configFile}.new`, cpa.configText('', MANAGEMENT_KEY, ['sk-the-only-one-now']));
  renameSync(`${cpa.configFile}.new`, cpa.configFile);
  await logged('cliproxy-config-lost');
  await until('status shows it', async () => (await status()).stdout.includes('its watch was lost'));
  await cpa.end();
  await cpa.restart();
  await until('a restart mends it', async () => !(await status()).stdout.includes('its watch was lost'));
});
