#!/usr/bin/env node
/** `npm run demo`: two replicas in this terminal. `npm run demo -- custody`: three that share one login. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const DEMOS = ['replication', 'custody'];
const root = join(import.meta.dirname, '..');
const ready = spawnSync(process.execPath, [join(root, 'scripts', 'ready.mjs')], { stdio: 'inherit' });
if (ready.status !== 0) process.exit(ready.status ?? 1);
const name = process.argv[2] ?? 'replication';
if (!DEMOS.includes(name)) {
  console.error(`There is no demo "${name}"; there are: ${DEMOS.join(', ')}.`);
  process.exit(2);
}
await import(`./demo/${name}.mjs`);
