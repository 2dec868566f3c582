#!/usr/bin/env node
/** `npm test`: installs and builds what is missing, then runs jest with the arguments given. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const ready = spawnSync(process.execPath, [join(root, 'scripts', 'ready.mjs')], { stdio: 'inherit' });
if (ready.status !== 0) process.exit(ready.status ?? 1);

const jest = join(root, 'node_modules', 'jest', 'bin', 'jest.js');
const { status } = spawnSync(process.execPath, ['--experimental-vm-modules', '--no-warnings', jest, ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
});
process.exit(status ?? 1);
