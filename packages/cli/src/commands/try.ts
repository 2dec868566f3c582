import { confirm, isCancel } from '@clack/prompts';
import type { Command } from 'commander';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { invoke, print } from '../context.js';
import { runDaemon } from './run.js';

/** The first run: the daemon on the user's own credentials if they say so, else on a sample. */
export async function tryOut(command: Command): Promise<number> {
  const directory = resolve(command.opts<{ directory: string }>().directory);
  const own = join(homedir(), '.cli-proxy-api');
  const store = join(directory, 'store');
  const useOwn = (await offerOwn(own, store)) === true;
  const workspace = join(directory, 'workspace');
  if (!useOwn) makeSample(workspace);
  const auths = useOwn ? own : join(workspace, 'auths');
  const overrides = useOwn ? { 'auth-dir': own } : { workspace };
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const invocation = await invoke(command, { ...overrides, store: pathToFileURL(store).href });
  const shown = (path: string): string => relative(process.cwd(), path) || '.';
  const itself = process.argv[1]?.endsWith('main.js') === true ? `node ${shown(process.argv[1])}` : 'tokenmirror';
  print(`\nTokenmirror watches  ${auths}`);
  print(`and mirrors it to    ${store}\n`);
  return runDaemon(invocation, () => {
    print('\nIt is in sync now. Try this in another terminal, in the same directory:');
    print(`  ls ${shown(join(store, 'auths'))}        the mirrored files`);
    if (!useOwn) {
      print(`  echo '{"type":"claude","access_token":"a new one"}' > ${shown(join(auths, 'claude-new.json'))}`);
      print(`  rm ${shown(join(auths, 'codex-sample@example.com.json'))}        goes in the store too, a second and a half later`);
    }
    print(`  ${itself} status ${useOwn ? `--auth-dir ${own}` : `--workspace ${shown(workspace)}`} --store ${pathToFileURL(store).href}`);
    print('Next: docs/postgres.md for a store that several replicas share. Ctrl-C stops it.\n');
  });
}

/** Copies of live tokens are made only after a yes; without a terminal nobody can say it. */
async function offerOwn(own: string, store: string): Promise<boolean | undefined> {
  if (!existsSync(own) || !process.stdin.isTTY) return undefined;
  const credentials = readdirSync(own).filter((name) => name.endsWith('.json')).length;
  if (credentials === 0) return undefined;
  const answer = await confirm({
    message: `There are ${String(credentials)} credentials in ${own}. Mirror them, which copies live tokens to ${store}? (No: use a sample workspace.)`,
    initialValue: false,
  });
  return isCancel(answer) ? undefined : answer;
}

const SAMPLE_CONFIG = `# A sample, not a working configuration.
port: 8317
auth-dir: "./auths"
api-keys:
  - "sample-key-that-opens-nothing"
`;

function makeSample(workspace: string): void {
  const auths = join(workspace, 'auths');
  const config = join(workspace, 'config');
  if (existsSync(auths)) return;
  mkdirSync(auths, { recursive: true, mode: 0o700 });
  mkdirSync(config, { recursive: true, mode: 0o700 });
  const expired = new Date(Date.now() + 8 * 3_600_000).toISOString().replace(/\.\d+/, '');
  for (const type of ['claude', 'codex']) {
    const sample = {
      type,
      email: 'sample@example.com',
      access_token: `sample-${type}-access`,
      refresh_token: `sample-${type}-refresh`,
      expired,
      disabled: false,
    };
    writeFileSync(join(auths, `${type}-sample@example.com.json`), JSON.stringify(sample), { mode: 0o600 });
  }
  writeFileSync(join(config, 'config.yaml'), SAMPLE_CONFIG, { mode: 0o600 });
}
