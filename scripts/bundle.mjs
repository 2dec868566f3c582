#!/usr/bin/env node
/** Bundles our own packages into the one that is published as `tokenmirror`; third-party packages stay dependencies. An argument names another place for it. */
import { build } from 'esbuild';
import { chmodSync, copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { spawnSync } from 'node:child_process';

const root = join(import.meta.dirname, '..');
const cli = join(root, 'packages', 'cli');
const compiled = spawnSync(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-b', root], { stdio: 'inherit' });
if (compiled.status !== 0) process.exit(compiled.status ?? 1);

const bundle = process.argv[2] ?? join(cli, 'bundle');
rmSync(bundle, { recursive: true, force: true });
const ours = {
  name: 'keep-third-party-external',
  setup({ onResolve }) {
    onResolve({ filter: /^[^./]/ }, ({ path, kind }) =>
      kind === 'entry-point' || path.startsWith('@tokenmirror/') ? undefined : { path, external: true },
    );
  },
};
await build({
  entryPoints: { tokenmirror: join(cli, 'dist', 'main.js') },
  outdir: bundle,
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  keepNames: true,
  plugins: [ours],
});
chmodSync(join(bundle, 'tokenmirror.js'), 0o755);
for (const file of ['README.md', 'LICENSE', 'CHANGELOG.md']) copyFileSync(join(root, file), join(cli, file));
