import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { parse } from 'plist';
import { cleanTemporaryDirectories, credential, freePort, runCommand, temporaryDirectory, until } from '@tokenmirror/testkit';

const NAME = 'claude-me@example.com.json';

afterAll(cleanTemporaryDirectories);

async function printed(kind: string, args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runCommand(['service', 'install', '--print', '--kind', kind, ...args], {
    HOME: temporaryDirectory('agent-home'),
    PGSTORE_DSN: 'postgres://user:password-of-tests@127.0.0.1/none',
  });
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  expect(stdout).not.toContain('password-of-tests');
  return stdout;
}

interface Start {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
}

/** Starts a daemon exactly as a service manager would, and takes it through start, readiness, a change and a stop. */
async function live(start: Start, workspace: string, store: string): Promise<void> {
  const [program = '', ...args] = start.argv;
  const child = spawn(program, args, { env: start.env, cwd: start.cwd, stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.on('data', (data: Buffer) => (log += data.toString()));
  const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
  await until('it is ready', () => log.includes('"msg":"ready"'));
  writeFileSync(join(workspace, 'auths', NAME), credential());
  await until('the change is stored', () => spawnSync('ls', [join(store, 'auths')], { encoding: 'utf8' }).stdout.includes(NAME));
  child.kill('SIGTERM');
  expect(await ended).toBe(0);
}

/** A workspace whose path has what service managers like to stumble over. */
async function place(): Promise<{ workspace: string; store: string; args: string[] }> {
  const root = join(temporaryDirectory('agent'), 'with space, 100% "quoted" & $HOME');
  const [workspace, store] = [join(root, 'workspace'), join(root, 'store')];
  mkdirSync(join(workspace, 'auths'), { recursive: true });
  const args = ['--workspace', workspace, '--filesystem-path', store, '--http-listen', `127.0.0.1:${String(await freePort())}`];
  return { workspace, store, args };
}

test('incident 17: the launchd agent starts a daemon that is restarted, with absolute paths and no secret', async () => {
  const { workspace, store, args } = await place();
  const agent = parse(await printed('launchd', args)) as unknown as {
    readonly ProgramArguments: readonly string[];
    readonly EnvironmentVariables: Readonly<Record<string, string>>;
    readonly WorkingDirectory: string;
    readonly StandardErrorPath: string;
  };
  expect(agent).toMatchObject({ RunAtLoad: true, KeepAlive: true, ProcessType: 'Background', Umask: 0o077 });
  for (const path of [...agent.ProgramArguments.slice(0, 2), agent.WorkingDirectory, agent.StandardErrorPath]) expect(path).toMatch(/^\//);
  await live({ argv: agent.ProgramArguments, env: agent.EnvironmentVariables, cwd: agent.WorkingDirectory }, workspace, store);
});

/** The words of a setting, as systemd splits them. */
function words(line: string): string[] {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, bare]) =>
    (quoted?.replaceAll(/\\(.)/g, '$1') ?? bare ?? '').replaceAll('%%', '%').replaceAll('$$', () => '$'),
  );
}

describe.each(['systemd-user', 'systemd-system'])('the unit for %s', (kind) => {
  test('starts a daemon that is restarted, and is understood by systemd', async () => {
    const { workspace, store, args } = await place();
    const unit = await printed(kind, args);
    const settings = (name: string): string[] => [...unit.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value = '']) => value);
    expect(settings('Restart')).toEqual(['always']);
    const env = Object.fromEntries(
      settings('Environment').flatMap((line) =>
        words(line).map((pair): [string, string] => [pair.split('=')[0] ?? '', pair.slice(pair.indexOf('=') + 1)]),
      ),
    );
    await live({ argv: words(settings('ExecStart')[0] ?? ''), env, cwd: '/' }, workspace, store);

    const isThere = spawnSync('systemd-analyze', ['--version']).status === 0;
    if (!isThere) return;
    const file = join(temporaryDirectory('agent-unit'), 'tokenmirror.service');
    writeFileSync(file, unit);
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', file], {
      encoding: 'utf8',
    });
    expect({ status, complaints: stderr.split('\n').filter((line) => line.includes('tokenmirror.service')) }).toEqual({
      status: 0,
      complaints: [],
    });
  });
});

test('what this shell sets goes into a private file, and nothing of it into the unit; uninstalling takes the unit away', async () => {
  const home = temporaryDirectory('agent-home');
  const bin = temporaryDirectory('agent-bin');
  writeFileSync(join(bin, 'systemctl'), '#!/bin/sh\necho "$@" >> "$HOME/asked"\n', { mode: 0o755 });
  const workspace = temporaryDirectory('agent-workspace');
  const environment = {
    HOME: home,
    PATH: `${bin}:/usr/bin:/bin`,
    PGSTORE_DSN: 'postgres://user:pass"word-of-tests@127.0.0.1:1/none',
    TOKENMIRROR_POLL_INTERVAL: '11s',
  };
  if (process.platform !== 'linux') return;
  const installed = await runCommand(
    ['service', 'install', '--workspace', workspace, '--mirrors', 's3://key:secret-of-tests@bucket'],
    environment,
  );
  expect(installed).toMatchObject({ exitCode: 0, stderr: '' });
  const unit = readFileSync(join(home, '.config/systemd/user/tokenmirror.service'), 'utf8');
  const file = join(home, '.config/tokenmirror/environment');
  for (const secret of ['word-of-tests', 'secret-of-tests']) expect(unit + installed.stdout).not.toContain(secret);
  expect(unit).toContain(`EnvironmentFile=-${file}`);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const lines = readFileSync(file, 'utf8').split('\n');
  expect(lines).toContain(`PGSTORE_DSN='${environment.PGSTORE_DSN}'`);
  expect(lines).toContain("TOKENMIRROR_MIRRORS='s3://key:secret-of-tests@bucket'");
  expect(lines).toContain("TOKENMIRROR_POLL_INTERVAL='11s'");
  expect(readFileSync(join(home, 'asked'), 'utf8')).toContain('--user enable --now tokenmirror.service');
  expect((await runCommand(['service', 'uninstall'], environment)).exitCode).toBe(0);
  expect(existsSync(join(home, '.config/systemd/user/tokenmirror.service'))).toBe(false);
});

test('secrets come from a file that the agent names', async () => {
  const directory = temporaryDirectory('agent-environment');
  const file = join(directory, 'environment');
  writeFileSync(file, 'PGSTORE_DSN=postgres://user:password-of-tests@127.0.0.1:1/none\n', { mode: 0o600 });
  const { exitCode, stdout, stderr } = await runCommand(['status', '--workspace', directory], { TOKENMIRROR_ENVIRONMENT_FILE: file });
  expect(exitCode).toBe(1);
  expect(stdout).toContain('postgres://127.0.0.1');
  expect(stdout + stderr).not.toContain('password-of-tests');
});
