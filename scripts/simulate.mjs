// Plays random schedules of custody in a simulated world. `npm run simulate -- --help`
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const root = join(import.meta.dirname, '..');
const ready = spawnSync(process.execPath, [join(root, 'scripts', 'ready.mjs')], { stdio: ['ignore', 'ignore', 'inherit'] });
if (ready.status !== 0) process.exit(ready.status ?? 1);
/** `--mutation RULE` plays with one rule switched off: an edit of the source, made while it is bundled. */
const args = process.argv.slice(2);
const at = args.indexOf('--mutation');
const [, rule] = at === -1 ? [] : args.splice(at, 2);
const mutations = JSON.parse(readFileSync(join(root, 'test', 'simulation', 'mutations.json'), 'utf8'));
const mutation = mutations.find((each) => each.rule === rule);
if (rule !== undefined && mutation === undefined) {
  console.error(`There is no rule "${rule}" in test/simulation/mutations.json.`);
  process.exit(2);
}
const source = join(root, 'packages', 'core', 'src');
const pending = new Set(mutation?.edits ?? []);
const switchedOff = {
  name: 'a rule switched off',
  setup: ({ onLoad }) => {
    onLoad({ filter: /\.ts$/ }, ({ path }) => {
      let contents = readFileSync(path, 'utf8');
      for (const edit of pending) {
        if (path !== join(source, edit.file)) continue;
        if (contents.split(edit.find).length !== 2) throw new Error(`"${edit.find}" is not in ${edit.file}, or not once`);
        contents = contents.replace(edit.find, () => edit.replace);
        pending.delete(edit);
      }
      return { contents, loader: 'ts' };
    });
  },
};

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
    alias: { '@tokenmirror/core': join(source, 'index.ts') },
    plugins: [switchedOff],
  });
  if (pending.size > 0) throw new Error('an edit was not made');
  const { status } = spawnSync(process.execPath, ['--enable-source-maps', outfile, ...args], {
    stdio: 'inherit',
    cwd: root,
  });
  process.exitCode = status ?? 1;
} finally {
  rmSync(outfile, { force: true });
}
