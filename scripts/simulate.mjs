// Plays random schedules of custody in a simulated world. `npm run simulate -- --help`
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..');
const ready = spawnSync(process.execPath, [join(root, 'scripts', 'ready.mjs')], { stdio: ['ignore', 'ignore', 'inherit'] });
if (ready.status !== 0) process.exit(ready.status ?? 1);
const directory = join(root, 'node_modules', '.cache');
mkdirSync(directory, { recursive: true });
const outfile = join(directory, `simulation-${process.pid}.mjs`);
try {
  await build({
    entryPoints: [join(root, 'test', 'simulation', 'main.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    sourcemap: 'inline',
    logLevel: 'error',
    packages: 'external',
    alias: { '@tokenmirror/core': join(root, 'packages', 'core', 'src', 'index.ts') },
  });
  const { status } = spawnSync(process.execPath, ['--enable-source-maps', outfile, ...process.argv.slice(2)], {
    stdio: 'inherit',
    cwd: root,
  });
  process.exitCode = status ?? 1;
} finally {
  rmSync(outfile, { force: true });
}
