import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, expect, test } from '@jest/globals';
import { cleanTemporaryDirectories, credential, readCredentials, temporaryDirectory, until } from '@tokenmirror/testkit';

const ROOT = join(import.meta.dirname, '../..');

afterAll(cleanTemporaryDirectories);

function npm(args: readonly string[], cwd: string): string {
  return execFileSync('npm', [...args, '--no-audit', '--no-fund', '--loglevel=error', '--prefer-offline'], {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

test('the packed files, installed globally into an empty prefix, run; the suite and the core can be imported', async () => {
  const packed = temporaryDirectory('packed');
  npm(['run', 'pack:all', '--', '--pack-destination', packed], ROOT);
  const files = readdirSync(packed).sort();
  expect(files).toEqual(['tokenmirror-0.1.0.tgz', 'tokenmirror-core-0.1.0.tgz', 'tokenmirror-store-conformance-0.1.0.tgz']);

  const prefix = temporaryDirectory('prefix');
  npm(['install', '--global', '--prefix', prefix, join(packed, 'tokenmirror-0.1.0.tgz')], packed);
  const command = join(prefix, 'bin', 'tokenmirror');
  const run = (...args: string[]) =>
    spawnSync(command, args, { env: { PATH: process.env['PATH'], HOME: '/nonexistent', NO_COLOR: '1' }, encoding: 'utf8', cwd: '/' });
  expect(run('--version').stdout.trim()).toBe('0.1.0');

  const root = temporaryDirectory('installed');
  mkdirSync(join(root, 'auths'));
  writeFileSync(join(root, 'auths/claude-a.json'), credential());
  const store = pathToFileURL(join(root, 'store')).href;
  expect(run('sync', '--workspace', root, '--store', store)).toMatchObject({ status: 0, stderr: '' });
  const daemon = spawn(command, ['run', '--workspace', root, '--store', store, '--log-format', 'json'], {
    env: { PATH: process.env['PATH'] },
    stdio: 'ignore',
  });
  try {
    writeFileSync(join(root, 'auths/claude-b.json'), credential());
    await until('the installed daemon works', () => Object.keys(readCredentials(join(root, 'store/auths'))).length === 2);
  } finally {
    const ended = new Promise((resolve) => daemon.once('exit', resolve));
    daemon.kill();
    await ended;
  }

  const author = temporaryDirectory('author');
  writeFileSync(join(author, 'package.json'), '{"type":"module","private":true}');
  npm(['install', join(packed, 'tokenmirror-core-0.1.0.tgz'), join(packed, 'tokenmirror-store-conformance-0.1.0.tgz')], author);
  const script =
    "import { describeConformance } from '@tokenmirror/store-conformance'; import { plan } from '@tokenmirror/core'; console.log(typeof describeConformance, typeof plan)";
  expect(execFileSync(process.execPath, ['--input-type=module', '-e', script], { cwd: author, encoding: 'utf8' }).trim()).toBe(
    'function function',
  );
}, 300_000);
