#!/usr/bin/env node
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { CliProxy } from './cliproxy.js';
import { FACT_NAMES, Measured, type Fact, type Flavour } from './facts.js';
import { Front } from './front.js';
import { RealDisk, realChance, systemTime } from './node-ports.js';
import { readProxyConfig } from './proxy-config.js';
import { TunnelledNetwork } from './tunnelled-network.js';

/** Started like the real program, `-config FILE`; what only the emulation knows comes by the environment. */
const { values } = parseArgs({
  args: process.argv.slice(2).map((word) => word.replace(/^-(?=config\b)/, '--')),
  options: { config: { type: 'string', default: 'config.yaml' } },
});
const configFile = resolve(values.config);
const flavour = (process.env['EMULATED_FLAVOUR'] ?? '7.2') as Flavour;
const without = (process.env['EMULATED_WITHOUT'] ?? '').split(',').filter((name): name is Fact => (FACT_NAMES as string[]).includes(name));
const reloadDelay = process.env['EMULATED_RELOAD_DELAY_MS'];

const config = readProxyConfig(readFileSync(configFile, 'utf8'));
const authDir = resolve(dirname(configFile), (config?.authDir ?? '').replace(/^~(?=\/|$)/, homedir()) || join(homedir(), '.cli-proxy-api'));
mkdirSync(authDir, { recursive: true, mode: 0o700 });
if (flavour === '6.9') {
  mkdirSync(join(authDir, 'logs'), { recursive: true });
  writeFileSync(join(authDir, 'logs', 'main.log'), 'started\n');
}

const network = new TunnelledNetwork();
const proxy = new CliProxy({
  disk: new RealDisk(authDir, configFile),
  network,
  clock: systemTime,
  chance: realChance(reloadDelay === undefined ? undefined : Number(reloadDelay)),
  measured: new Measured(flavour, without),
});
await proxy.start();
const front = new Front(proxy);
await front.listen(proxy.config.port, proxy.config.host);
process.stdout.write(`API server started on ${proxy.config.host}:${String(proxy.config.port)}\n`);
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    front.close();
    proxy.stop();
    network.close();
    process.exit(0);
  });
}
