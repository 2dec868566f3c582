import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  COMMAND,
  createSchema,
  credential,
  DaemonProcess,
  PostgresServer,
  readCredentials,
  runCommand,
  temporaryDirectory,
  until,
  UpstreamPostgres,
  type TestSchema,
} from '@tokenmirror/testkit';

let schema: TestSchema;
let environment: Record<string, string>;

beforeEach(async () => {
  schema = await createSchema();
  environment = { PGSTORE_DSN: schema.dsn, PGSTORE_SCHEMA: schema.schema };
});
afterEach(() => schema.destroy());
afterAll(cleanTemporaryDirectories);

/** Runs a command in a user namespace of its own, in which there are no inotify watches. */
const WITHOUT_WATCHES = [
  ['/usr/bin/unshare', '/bin/unshare'].find((path) => existsSync(path)) ?? 'unshare',
  '--map-root-user',
  'sh',
  '-c',
  'echo 0 > /proc/sys/user/max_inotify_watches && exec "$@"',
  'sh',
];

/** Mounting needs root, and both a machine that lets it; elsewhere their tests count as skipped. */
const canMount = tryMounting();
const canLimitWatches = spawnSync(WITHOUT_WATCHES[0] ?? '', [...WITHOUT_WATCHES.slice(1), 'true'], { stdio: 'ignore' }).status === 0;

function mountTmpfs(place: string): boolean {
  return ['mount', '/bin/mount'].some((mount) => spawnSync(mount, ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', place]).status === 0);
}

function unmount(place: string): void {
  if (spawnSync('umount', ['-l', place]).status !== 0) spawnSync('/bin/umount', ['-l', place]);
}

function tryMounting(): boolean {
  const place = temporaryDirectory('mount');
  const works = mountTmpfs(place);
  if (works) unmount(place);
  return works;
}

function workspace(): string {
  const root = temporaryDirectory('bad-input');
  for (const folder of ['auths', 'config']) mkdirSync(join(root, folder));
  writeFileSync(join(root, 'auths/good.json'), credential());
  return root;
}

function dsnWith(change: (url: URL) => void): string {
  const url = new URL(schema.dsn);
  change(url);
  return url.href;
}

describe('documents', () => {
  test('each bad one is refused by name and reason, and everything else goes on', async () => {
    const root = workspace();
    const bad: Record<string, string | Buffer> = {
      'huge.json': JSON.stringify({ type: 'claude', access_token: 'x'.repeat(5_000_000) }),
      'twice.json': '{"type":"claude","access_token":"a","access_token":"b"}',
      'deep.json': `${'{"a":'.repeat(100)}1${'}'.repeat(100)}`,
      'bytes.json': Buffer.from([0x7b, 0xff, 0x7d]),
      'cut.json': '{"type":"claude","access_to',
      'list.json': '[1]',
      'nul.json': '{"type":"claude","access_token":"a\\u0000b"}',
      'stub.json': '{"type":"claude","disabled":true}',
    };
    for (const [name, content] of Object.entries(bad)) writeFileSync(join(root, 'auths', name), content);
    writeFileSync(join(root, 'config/config.yaml'), 'api-keys: [unclosed\n');
    const result = await runCommand(['sync', '--workspace', root, '--json'], environment);
    expect(result.exitCode).toBe(1);
    const { actions, refusals } = JSON.parse(result.stdout) as {
      actions: { name: string }[];
      refusals: { name: string; reason: string }[];
    };
    expect(actions.map(({ name }) => name)).toEqual(['auths/good.json']);
    expect(refusals.map(({ name }) => name).sort()).toEqual(
      [...Object.keys(bad).map((name) => `auths/${name}`), 'config/config.yaml'].sort(),
    );
    expect(refusals.every(({ reason }) => reason.length > 10)).toBe(true);
    for (const [name, content] of Object.entries(bad)) expect(readFileSync(join(root, 'auths', name))).toEqual(Buffer.from(content));
  });

  test('hostile ids in the table touch nothing outside, and are shown', async () => {
    const upstream = new UpstreamPostgres(schema);
    await upstream.install();
    const hostile = [
      '../../etc/x.json',
      '/etc/absolute.json',
      'a\nb.json',
      'a\u001b[31m.json',
      '..',
      'x/../../y.json',
      `${'n'.repeat(300)}.json`,
      'C:\\x.json',
    ];
    for (const id of hostile) await upstream.saveCredential(id, credential());
    await upstream.saveCredential('fine.json', credential());
    const root = workspace();
    const result = await runCommand(['sync', '--workspace', root, '--json'], environment);
    const { refusals } = JSON.parse(result.stdout) as { refusals: { name: string; side: string }[] };
    expect(refusals).toHaveLength(hostile.length);
    expect(refusals.every(({ side, name }) => side === 'store' && !/\p{Cc}/u.test(name))).toBe(true);
    expect(Object.keys(readCredentials(join(root, 'auths'))).sort()).toEqual(['fine.json', 'good.json']);
    expect(existsSync('/etc/absolute.json') || existsSync(join(root, '..', '..', 'etc', 'x.json'))).toBe(false);
  });
});

describe('Postgres', () => {
  test('a database that does not exist, a server that is not there', async () => {
    const root = workspace();
    const missing = await runCommand(['sync', '--workspace', root], {
      ...environment,
      PGSTORE_DSN: dsnWith((url) => (url.pathname = '/no_such_database')),
    });
    expect(missing).toMatchObject({ exitCode: 4, stderr: expect.stringContaining('the database does not exist') });
    const nobody = await runCommand(['sync', '--workspace', root], { ...environment, PGSTORE_DSN: dsnWith((url) => (url.port = '1')) });
    expect(nobody).toMatchObject({ exitCode: 4, stderr: expect.stringContaining('STORE_UNREACHABLE') });
    const tls = await runCommand(['sync', '--workspace', root], {
      ...environment,
      PGSTORE_DSN: dsnWith((url) => {
        url.searchParams.set('sslmode', 'require');
      }),
    });
    expect(tls).toMatchObject({ exitCode: 4, stderr: expect.stringMatching(/SSL/) });
  });

  test('a wrong password is named as such and does not appear', async () => {
    const server = await PostgresServer.create({ passwords: true });
    try {
      const dsn = server.url().replace('postgres@', 'postgres:wrong-password@');
      const result = await runCommand(['sync', '--workspace', workspace()], { PGSTORE_DSN: dsn });
      expect(result).toMatchObject({ exitCode: 4, stderr: expect.stringContaining('the password was refused') });
      expect(result.stderr).not.toContain('wrong-password');
    } finally {
      await server.destroy();
    }
  });

  test('the grants of the guide are enough once the tables are there, and a missing one is named', async () => {
    const role = `limited_${schema.schema}`;
    await schema.query(`CREATE ROLE ${role} LOGIN PASSWORD 'pw'`);
    try {
      const limited = {
        ...environment,
        PGSTORE_DSN: dsnWith((url) => {
          url.username = role;
          url.password = 'pw';
        }),
      };
      const root = workspace();
      const before = await runCommand(['sync', '--workspace', root], limited);
      expect(before).toMatchObject({ exitCode: 4, stderr: expect.stringContaining('lacks the right to make the tables') });
      await runCommand(['sync', '--workspace', workspace()], environment);
      const grants =
        readFileSync(join(import.meta.dirname, '../../docs/postgres.md'), 'utf8').match(/```sql\n(GRANT[\s\S]*?)```/)?.[1] ?? '';
      expect(grants).toContain('GRANT');
      for (const grant of grants.replaceAll('public', schema.schema).replaceAll('tokenmirror_user', role).split(';'))
        if (grant.trim() !== '') await schema.query(grant);
      const allowed = await runCommand(['sync', '--workspace', root], limited);
      expect(allowed).toMatchObject({ exitCode: 0, stderr: '' });
      await schema.query(`REVOKE INSERT ON tokenmirror_history FROM ${role}`);
      const lacking = await runCommand(['sync', '--workspace', root], limited);
      expect(lacking).toMatchObject({ exitCode: 4, stderr: expect.stringContaining('lacks INSERT on') });
    } finally {
      await schema.query(`DROP OWNED BY ${role}`);
      await schema.query(`DROP ROLE ${role}`);
    }
  });

  test('custom table names are used', async () => {
    const root = workspace();
    const result = await runCommand(['sync', '--workspace', root], {
      ...environment,
      PGSTORE_AUTH_TABLE: 'my creds',
      PGSTORE_CONFIG_TABLE: 'My"Config',
    });
    expect(result).toMatchObject({ exitCode: 0, stderr: '' });
    expect(await schema.query('SELECT id FROM "my creds"')).toEqual([{ id: 'good.json' }]);
  });
});

describe('disks', () => {
  /** Root ignores modes, so these run as nobody. */
  const asNobody = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {};
  function runAsNobody(args: string[], env: Record<string, string>) {
    return spawnSync(process.execPath, [COMMAND, ...args], {
      ...asNobody,
      env: { HOME: '/nonexistent', NO_COLOR: '1', ...env },
      encoding: 'utf8',
      cwd: '/',
    });
  }
  function owned(path: string): string {
    if (process.getuid?.() === 0) for (const each of [path, join(path, 'auths'), join(path, 'config')]) chownSync(each, 65534, 65534);
    return path;
  }

  test('incident 24: a file that cannot be read is shown, not skipped', () => {
    const root = owned(workspace());
    chmodSync(join(root, 'auths/good.json'), 0o000);
    writeFileSync(join(root, 'auths/other.json'), credential());
    chmodSync(join(root, 'auths/other.json'), 0o644);
    const result = runAsNobody(['sync', '--workspace', root], environment);
    expect(result.status).toBe(1);
    expect(result.stdout).toContain('auths/good.json: it cannot be read by this user (permission denied)');
    expect(result.stdout).toMatch(/push\s+auths\/other\.json/);
  });

  test('a directory that cannot be written is named with the remedy, and nothing is lost', async () => {
    await runCommand(['sync', '--workspace', workspace()], environment);
    const root = owned(workspace());
    chmodSync(join(root, 'auths/good.json'), 0o644);
    chmodSync(join(root, 'auths'), 0o555);
    const result = runAsNobody(['sync', '--workspace', root], environment);
    expect(result.status).not.toBe(0);
    expect(result.stderr + result.stdout).toMatch(/cannot be written|permission denied/i);
    chmodSync(join(root, 'auths'), 0o755);
  });

  (canMount ? test : test.skip)('a full disk under the store is named, and work goes on when there is room', async () => {
    const disk = temporaryDirectory('disk');
    expect(mountTmpfs(disk)).toBe(true);
    const daemon = new DaemonProcess(workspace(), ['--store', pathToFileURL(join(disk, 'store')).href, '--poll-interval', '200ms']);
    try {
      await daemon.start();
      writeFileSync(join(disk, 'filler'), Buffer.alloc(256 * 1024).subarray(0, 150 * 1024));
      writeFileSync(join(daemon.authDir, 'big.json'), credential({ note: 'x'.repeat(90_000) }));
      await until('the full disk is noticed', () => daemon.log.some(({ reason }) => String(reason).includes('is full')));
      rmSync(join(disk, 'filler'));
      await until('it is stored after all', () => existsSync(join(disk, 'store/auths/big.json')));
      expect(await daemon.stop()).toBe(0);
    } finally {
      await daemon.kill();
      unmount(disk);
    }
  });

  (canMount ? test : test.skip)(
    'a full disk under the workspace is named, and what could not be written arrives when there is room',
    async () => {
      const disk = temporaryDirectory('disk');
      expect(mountTmpfs(disk)).toBe(true);
      const [state, other] = [temporaryDirectory('state'), workspace()];
      const daemon = new DaemonProcess(disk, ['--state-dir', state, '--sweep-interval', '300ms', '--custody', 'off'], environment);
      try {
        await daemon.start();
        writeFileSync(join(disk, 'filler'), Buffer.alloc(200 * 1024));
        writeFileSync(join(other, 'auths/big.json'), credential({ note: 'x'.repeat(90_000) }));
        await runCommand(['sync', '--workspace', other, '--custody', 'off'], environment);
        await until('the full disk is noticed', () => daemon.log.some(({ reason }) => String(reason).includes('the disk is full')));
        expect(existsSync(join(daemon.authDir, 'big.json'))).toBe(false);
        rmSync(join(disk, 'filler'));
        await until('it arrived after all', () => existsSync(join(daemon.authDir, 'big.json')));
        expect(readCredentials(daemon.authDir)).toEqual(readCredentials(join(other, 'auths')));
      } finally {
        await daemon.kill();
        unmount(disk);
      }
    },
  );
});

test('incident 27: SIGTERM during a flood of changes ends cleanly, and the next start completes the rest', async () => {
  const root = workspace();
  const daemon = new DaemonProcess(root, [], environment);
  await daemon.start();
  for (let n = 0; n < 300; n += 1) writeFileSync(join(root, 'auths', `c-${String(n)}.json`), credential());
  expect(await daemon.stop()).toBe(0);
  await runCommand(['sync', '--workspace', root], environment);
  expect(await runCommand(['verify', '--workspace', root], environment)).toMatchObject({
    exitCode: 0,
    stdout: "workspace: 301 of 301 documents are equal to the authority's.\n",
  });
});

(canLimitWatches ? test : test.skip)('incident 23: without inotify watches left, files are polled, with a warning', async () => {
  const root = workspace();
  const daemon = new DaemonProcess(root, [], environment);
  daemon.launcher = WITHOUT_WATCHES;
  try {
    await daemon.start();
    await until('it says that it polls', () => daemon.logged('watch.polling'));
    writeFileSync(join(root, 'auths/polled.json'), credential());
    await until('the change is seen', async () => (await new UpstreamPostgres(schema).boot()).credentials.has('polled.json'));
  } finally {
    await daemon.kill();
  }
});

test('incident 25: a config on a pinned inode is updated on that inode', async () => {
  const { statSync } = await import('node:fs');
  const [one, two] = [workspace(), workspace()];
  for (const root of [one, two]) writeFileSync(join(root, 'config/config.yaml'), 'api-keys:\n  - k\ndebug: false\n');
  await runCommand(['sync', '--workspace', one], environment);
  await runCommand(['sync', '--workspace', two], environment);
  const inode = statSync(join(two, 'config/config.yaml')).ino;
  writeFileSync(join(one, 'config/config.yaml'), 'api-keys:\n  - k\ndebug: true\n');
  await runCommand(['sync', '--workspace', one], environment);
  await runCommand(['sync', '--workspace', two], environment);
  expect(readFileSync(join(two, 'config/config.yaml'), 'utf8')).toBe('api-keys:\n  - k\ndebug: true\n');
  expect(statSync(join(two, 'config/config.yaml')).ino).toBe(inode);
});
