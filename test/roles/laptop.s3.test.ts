import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  credential,
  DaemonProcess,
  FaultProxy,
  git,
  readCredentials,
  runCommand,
  temporaryDirectory,
  TestBucket,
  until,
} from '@tokenmirror/testkit';

const CLAUDE = 'claude-me@example.com.json';

let primary: TestBucket;
let backup: TestBucket;
let repository: string;
let peer: string;
let daemon: DaemonProcess;
let environment: Record<string, string>;

/** Object storage with a backup beside it, a git-tracked copy, and the directory of a second tool: one configuration. */
beforeEach(() => {
  primary = new TestBucket();
  backup = new TestBucket(primary.access, `${primary.prefix}-backup`);
  repository = temporaryDirectory('dotfiles');
  git(['init', '--quiet', '--initial-branch=main', repository], '/');
  peer = join(temporaryDirectory('ccs'), 'auth');
  mkdirSync(peer);
  environment = {
    ...primary.environment,
    OBJECTSTORE_BACKUP_PREFIX: backup.prefix,
    GITSTORE_GIT_URL: repository,
    TOKENMIRROR_MIRRORS: 'git',
    TOKENMIRROR_MIRROR_INTERVAL: '2s',
    TOKENMIRROR_PEERS: peer,
    TOKENMIRROR_PEER_FILTER: 'claude-*',
    TOKENMIRROR_POLL_INTERVAL: '300ms',
    TOKENMIRROR_SWEEP_INTERVAL: '1s',
  };
  daemon = new DaemonProcess(temporaryDirectory('laptop'), ['--store-timeout', '3s'], environment);
});

afterEach(async () => {
  await daemon.kill();
  for (const bucket of [primary, backup]) await bucket.destroy();
});

afterAll(cleanTemporaryDirectories);

const fields = (text: string | undefined): Record<string, unknown> => JSON.parse(text ?? '{}') as Record<string, unknown>;
const at = (directory: string, name: string): Record<string, unknown> =>
  existsSync(join(directory, name)) ? (readCredentials(directory)[name] as Record<string, unknown>) : {};
const inBucket = async (bucket: TestBucket, name: string): Promise<Record<string, unknown>> => fields(await bucket.get(`auths/${name}`));
const command = (...args: string[]) => runCommand([...args, '--workspace', daemon.workspace], environment);

/** The status, once every mirror has been compared and nothing is being copied. */
async function inStep(): ReturnType<typeof command> {
  for (;;) {
    const status = await command('status', '--json');
    const { mirrors } = JSON.parse(status.stdout) as { mirrors: { copying: { state: string } }[] };
    if (mirrors.every(({ copying }) => copying.state === 'in step')) return status;
  }
}

test('a login is in the bucket, the backup, the repository and the other tool; an edit there comes back; a deletion goes everywhere', async () => {
  const login = credential();
  writeFileSync(join(daemon.authDir, CLAUDE), login);
  writeFileSync(join(daemon.authDir, 'codex-me@example.com.json'), credential());
  writeFileSync(join(daemon.workspace, 'config/config.yaml'), 'port: 8317\napi-keys:\n  - real-key\n');
  await daemon.start();
  const committed = join(repository, 'auths');
  await until(
    'it is in the backup and in the repository',
    async () => (await backup.get(`auths/${CLAUDE}`)) === login && existsSync(join(committed, CLAUDE)),
  );
  expect(await primary.get(`auths/${CLAUDE}`)).toBe(login);
  expect(readFileSync(join(committed, CLAUDE), 'utf8')).toBe(login);
  expect(git(['log', '--format=%s'], repository)).toContain(CLAUDE);

  await until('it is at the other tool', () => existsSync(join(peer, CLAUDE)));
  const { refresh_token: secret, ...sealed } = fields(login);
  expect(at(peer, CLAUDE)).toEqual(sealed);
  expect(secret).toBeDefined();
  expect(statSync(join(peer, CLAUDE)).mode & 0o777).toBe(0o600);
  expect(Object.keys(readCredentials(peer))).toEqual([CLAUDE]);

  writeFileSync(join(peer, CLAUDE), JSON.stringify({ ...sealed, note: 'from the other tool' }));
  await until('the edit arrived', () => at(daemon.authDir, CLAUDE)['note'] === 'from the other tool');
  expect(at(daemon.authDir, CLAUDE)).toEqual({ ...fields(login), note: 'from the other tool' });
  await until('and is in the backup', async () => (await inBucket(backup, CLAUDE))['note'] === 'from the other tool');
  expect(await inBucket(backup, CLAUDE)).toEqual({ ...fields(login), note: 'from the other tool' });

  await until('all is in step', async () => (await command('verify')).exitCode === 0);
  const verified = await command('verify');
  expect(verified.stdout.trim().split('\n')).toHaveLength(4);
  const status = await inStep();
  expect(JSON.parse(status.stdout)).toMatchObject({
    mirrors: [
      { name: 's3-backup', reachable: true, copying: { state: 'in step' } },
      { name: 'git', reachable: true, copying: { state: 'in step' } },
    ],
    peers: [{ directory: peer, reachable: true, credentials: 1 }],
  });
  expect(status.exitCode).toBe(0);
  expect(status.stdout + daemon.output).not.toContain(String(secret));

  unlinkSync(join(peer, CLAUDE));
  await until('it is gone everywhere', async () => {
    const left = [await primary.get(`auths/${CLAUDE}`), await backup.get(`auths/${CLAUDE}`)];
    return !existsSync(join(daemon.authDir, CLAUDE)) && !existsSync(join(committed, CLAUDE)) && left.every((text) => text === undefined);
  });
  expect(await primary.get('auths/codex-me@example.com.json')).toBeDefined();
});

test('a login in the other tool is taken whole, and sealed there', async () => {
  await daemon.start();
  const login = credential();
  writeFileSync(join(peer, CLAUDE), login);
  await until('it is in the workspace', () => at(daemon.authDir, CLAUDE)['access_token'] === fields(login)['access_token']);
  await until(
    'it is sealed at the other tool',
    () => at(peer, CLAUDE)['access_token'] !== undefined && !('refresh_token' in at(peer, CLAUDE)),
  );
  expect(await inBucket(primary, CLAUDE)).toEqual(fields(login));
  // The proxy of the other tool may know the token for a while, so the one here does not get it yet.
  expect(at(daemon.authDir, CLAUDE)).not.toHaveProperty('refresh_token');
});

test('incident 16: a mirror that fails is shown, harms nothing, and catches up', async () => {
  writeFileSync(join(daemon.authDir, CLAUDE), credential());
  await daemon.start();
  await until('it is in the repository', () => existsSync(join(repository, 'auths', CLAUDE)));
  await inStep();
  renameSync(repository, `${repository}-away`);
  writeFileSync(join(daemon.authDir, 'claude-2.json'), credential());
  await until('the backup goes on', async () => (await backup.get('auths/claude-2.json')) !== undefined);
  await until('the trouble is told', () => daemon.log.some(({ msg, mirror }) => msg === 'mirror-trouble' && mirror === 'git'));
  const status = await command('status');
  expect(status).toMatchObject({
    exitCode: 1,
    stdout: expect.stringMatching(/mirror {5}git, .*\n.*out of reach: .*the repository is not there/),
  });
  expect((await command('verify')).exitCode).toBe(1);
  rmSync(repository, { recursive: true, force: true });
  renameSync(`${repository}-away`, repository);
  await until('it caught up', () => existsSync(join(repository, 'auths/claude-2.json')));
  await until('which is told', () => daemon.log.some(({ msg, mirror }) => msg === 'mirror-back' && mirror === 'git'));
});

test('a mirror that never answers delays neither the start, on an empty authority too, nor the stop', async () => {
  const proxy = await FaultProxy.before(primary.access.endpoint);
  const silent = { ...backup.environment, OBJECTSTORE_ENDPOINT: proxy.url, TOKENMIRROR_MIRRORS: 's3', TOKENMIRROR_STORE_TIMEOUT: '10m' };
  const store = join(temporaryDirectory('authority'), 'store');
  const beside = new DaemonProcess(temporaryDirectory('laptop'), ['--store', `file://${store}`], silent);
  try {
    proxy.fault = () => 'hang';
    await beside.start();
    writeFileSync(join(beside.authDir, CLAUDE), credential());
    await until('the authority has it', () => existsSync(join(store, 'auths', CLAUDE)));
    expect(await beside.stop()).toBe(0);
    proxy.fault = () => undefined;
    await beside.start();
    await until('the mirror has it too', async () => (await backup.get(`auths/${CLAUDE}`)) !== undefined);
  } finally {
    await beside.kill();
    await proxy.close();
  }
});

test('one-shot: sync copies to every place, and its exit code tells of a mirror in trouble', async () => {
  writeFileSync(join(daemon.authDir, CLAUDE), credential());
  expect(await command('sync')).toMatchObject({ exitCode: 0 });
  expect(await backup.get(`auths/${CLAUDE}`)).toBeDefined();
  expect(existsSync(join(repository, 'auths', CLAUDE))).toBe(true);
  expect(existsSync(join(peer, CLAUDE))).toBe(true);
  const broken = await runCommand(['sync', '--workspace', daemon.workspace], {
    ...environment,
    OBJECTSTORE_BACKUP_ACCESS_KEY: primary.access.accessKey,
    OBJECTSTORE_BACKUP_SECRET_KEY: 'another-secret',
  });
  expect(broken).toMatchObject({
    exitCode: 1,
    stdout: expect.stringMatching(/mirror s3-backup: in trouble; .*the access key or the secret key was refused/),
  });
  expect(broken.stdout + broken.stderr).not.toContain('another-secret');
});

test.each([
  ['a mirror that is the authority', { TOKENMIRROR_MIRRORS: 's3' }, 'is named twice'],
  ['a peer that lies in the workspace', { TOKENMIRROR_PEERS: 'inside' }, 'lie in each other'],
  ['a peer that is not there', { TOKENMIRROR_PEERS: '/nonexistent/auth' }, 'does not exist'],
])('%s is refused', async (_, wrong, message) => {
  const more = 'TOKENMIRROR_PEERS' in wrong && wrong.TOKENMIRROR_PEERS === 'inside' ? { TOKENMIRROR_PEERS: daemon.authDir } : wrong;
  const refused = await runCommand(['sync', '--workspace', daemon.workspace], { ...environment, ...more });
  expect(refused.exitCode).not.toBe(0);
  expect(refused.stderr).toContain(message);
});
