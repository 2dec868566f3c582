#!/usr/bin/env node
/** `npm start`: the daemon on whatever the environment configures, else a first run. */
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const ready = spawnSync(process.execPath, [join(root, 'scripts', 'ready.mjs')], { stdio: 'inherit' });
if (ready.status !== 0) process.exit(ready.status ?? 1);

const isConfigured = ['WORKSPACE', 'AUTH_DIR', 'CONFIG'].some((name) => process.env[`TOKENMIRROR_${name}`] !== undefined);
const args = process.argv.slice(2);
const command = isConfigured || args.length > 0 ? ['run', ...args] : ['try', '--directory', join(root, 'sample')];
const daemon = spawn(process.execPath, [join(root, 'packages', 'cli', 'dist', 'main.js'), ...command], { stdio: 'inherit' });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => daemon.kill(signal));
daemon.on('exit', (code) => process.exit(code ?? 1));
