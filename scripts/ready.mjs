#!/usr/bin/env node
/** Installs and builds what is missing, so that any npm script works as the first command in a fresh clone. */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`Node.js 20.19 or later is needed; this is ${process.versions.node}.`);
  process.exit(1);
}

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], ...options });
  if (error !== undefined) throw error;
  if (status !== 0) process.exit(status ?? 1);
}

/** The lock file that npm leaves behind says what is installed. */
function isInstalled() {
  const installed = join(root, 'node_modules', '.package-lock.json');
  const wanted = join(root, 'package-lock.json');
  if (!existsSync(installed)) return false;
  if (statSync(installed).mtimeMs >= statSync(wanted).mtimeMs) return true;
  const versions = (path) =>
    JSON.stringify(
      Object.entries(JSON.parse(readFileSync(path, 'utf8')).packages)
        .filter(([name, { link, optional }]) => name.startsWith('node_modules/') && !link && !optional)
        .map(([name, { version }]) => [name, version])
        .sort(),
    );
  return versions(installed) === versions(wanted);
}

if (!isInstalled()) {
  console.log('Installing what is needed (once) ...');
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
}
run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-b']);
