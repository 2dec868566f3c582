import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, chmodSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  createSchema,
  credential,
  DaemonProcess,
  PostgresServer,
  readCredentials,
  renameOver,
  runCommand,
  SilentProxy,
  temporaryDirectory,
  until,
  UpstreamPostgres,
  writeInPlace,
  type TestSchema,
} from '@tokenmirror/testkit';

let schema: TestSchema;
let daemons: DaemonProcess[];

beforeEach(async () => {
  schema = await createSchema();
  daemons = [];
});

afterEach(async () => {
  for (const daemon of daemons) await daemon.kill();
  await schema.destroy();
});

afterAll(cleanTemporaryDirectories);

function daemon(dsn = schema.dsn, args: readonly string[] = []): DaemonProcess {
  const made = new DaemonProcess(temporaryDirectory('replica'), ['--store-timeout', '2s', ...args], {
    PGSTORE_DSN: dsn,
    PGSTORE_SCHEMA: schema.schema,
  });
  daemons.push(made);
  return made;
}

async function storedCredentials(): Promise<Record<string, unknown>> {
  const { credentials } = await new UpstreamPostgres(schema).boot();
  return Object.fromEntries([...credentials].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Waits until the store and every workspace hold the same credentials, and returns them. */
async function converged(what: string, timeoutMs = 30_000): Promise<Record<string, unknown>> {
  let stored: Record<string, unknown> = {};
  await until(
    what,
    async () => {
      stored = await storedCredentials();
      const wanted = JSON.stringify(Object.entries(stored).map(([name, value]) => [name, sorted(value)]));
      return daemons.every(
        ({ authDir }) => JSON.stringify(Object.entries(readCredentials(authDir)).map(([name, value]) => [name, sorted(value)])) === wanted,
      );
    },
    timeoutMs,
  );
  return stored;
}

function sorted(value: unknown): unknown {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value;
}

describe('two daemons on one Postgres', () => {
  test('carry every file operation of a person and of CLIProxyAPI', async () => {
    const [a, b] = [daemon(), daemon()];
    const file = (at: DaemonProcess, name: string): string => join(at.authDir, name);
    writeFileSync(file(a, 'claude-1.json'), credential());
    await Promise.all([a.start(), b.start()]);
    await converged('what was there at the start');

    writeInPlace(file(a, 'claude-2.json'), credential());
    writeInPlace(file(b, 'claude-1.json'), credential({ note: 'from b' }));
    expect(await converged('created, rewritten in place')).toMatchObject({ 'claude-1.json': { note: 'from b' } });

    renameOver(file(a, 'claude-2.json'), credential({ note: 'renamed over' }));
    writeFileSync(file(a, 'claude-3.json.tmp'), credential());
    writeFileSync(file(a, '.claude-4.json'), credential());
    expect(Object.keys(await converged('renamed over; temporary and hidden files stay out'))).toEqual(['claude-1.json', 'claude-2.json']);

    chmodSync(file(a, 'claude-1.json'), 0o640);
    unlinkSync(file(a, 'claude-2.json'));
    await until('the deletion reached the store', async () => !Object.keys(await storedCredentials()).includes('claude-2.json'));
    expect(Object.keys(await converged('deleted'))).toEqual(['claude-1.json']);

    writeFileSync(file(b, 'claude-2.json'), credential({ note: 'made again' }));
    await until('it is there again', async () => 'claude-2.json' in (await storedCredentials()));
    expect(await converged('made again')).toMatchObject({ 'claude-2.json': { note: 'made again' } });

    for (let n = 0; n < 500; n += 1) writeInPlace(file(n % 2 === 0 ? a : b, `burst-${String(n)}.json`), credential());
    await until('the burst reached the store', async () => Object.keys(await storedCredentials()).length === 502);
    expect(Object.keys(await converged('a burst of 500'))).toHaveLength(502);
    expect(statSync(file(b, 'burst-0.json')).mode & 0o777).toBe(0o600);

    const verified = await runCommand(['verify', '--workspace', a.workspace], { PGSTORE_DSN: schema.dsn, PGSTORE_SCHEMA: schema.schema });
    expect(verified).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('workspace: 502 of 502 documents are equal') });
    expect(await a.stop()).toBe(0);
    expect(await b.stop()).toBe(0);
  });

  test('take what CLIProxyAPI itself writes into its tables, and write what it can start from', async () => {
    const upstream = new UpstreamPostgres(schema);
    await upstream.install();
    await upstream.saveCredential('claude-old.json', credential({ note: 'before us' }));
    await upstream.saveConfig('port: 8317\r\napi-keys:\r\n  - k1\r\n');
    const [a, b] = [daemon(), daemon()];
    await Promise.all([a.start(), b.start()]);
    await converged('rows that were there before');
    expect(readFileSync(a.configFile, 'utf8')).toBe('port: 8317\napi-keys:\n  - k1\n');

    await upstream.saveCredential('team/codex-new.json', credential({ note: 'by upstream' }));
    await upstream.saveCredential('claude-old.json', credential({ note: 'changed by upstream' }));
    await until(
      'both arrived',
      () =>
        existsSync(join(b.authDir, 'team/codex-new.json')) &&
        readFileSync(join(b.authDir, 'claude-old.json'), 'utf8').includes('changed by upstream'),
    );
    await upstream.saveCredential('claude-third.json', credential());
    await until('a third', () => existsSync(join(a.authDir, 'claude-third.json')));
    await upstream.deleteCredential('claude-old.json');
    await until(
      'the deletion by upstream',
      () => !existsSync(join(a.authDir, 'claude-old.json')) && !existsSync(join(b.authDir, 'claude-old.json')),
    );

    const text = credential({ note: 'ours', nested: { b: [1, 2], a: null } });
    writeFileSync(join(a.authDir, 'ours.json'), text);
    await until('it is in the table', async () => 'ours.json' in (await storedCredentials()));
    const booted = await upstream.boot();
    expect(booted.credentials.get('ours.json')).toEqual(JSON.parse(text));
    expect(booted.config).toBe('port: 8317\napi-keys:\n  - k1\n');
  });

  test('merge configs of both sides; host sections stay, comments stay', async () => {
    const [a, b] = [daemon(), daemon()];
    writeFileSync(a.configFile, '# shared\n\nport: 1111\napi-keys:\n  - k1\ndebug: false\n');
    await a.start();
    writeFileSync(b.configFile, 'port: 2222\n');
    await b.start();
    await until(
      'b has the shared sections and its own port',
      () => readFileSync(b.configFile, 'utf8') === '# shared\n\nport: 2222\napi-keys:\n  - k1\ndebug: false\n',
    );
    const inode = statSync(b.configFile).ino;
    writeInPlace(a.configFile, '# shared\n\nport: 1111\napi-keys:\n  - k1\n  - k2 # new\ndebug: false\n');
    await until('the new key is at b', () => readFileSync(b.configFile, 'utf8').includes('- k2 # new'));
    expect(readFileSync(b.configFile, 'utf8')).toContain('port: 2222');
    expect(statSync(b.configFile).ino).toBe(inode);
  });

  test('do nothing when nothing happens: no writes, one query per poll', async () => {
    const args = ['--poll-interval', '200ms', '--sweep-interval', '300ms'];
    const [a, b] = [daemon(schema.dsn, args), daemon(schema.dsn, args)];
    for (let n = 0; n < 20; n += 1) writeFileSync(join(a.authDir, `c-${String(n)}.json`), credential());
    writeFileSync(a.configFile, 'port: 1\napi-keys:\n  - k1\n');
    await Promise.all([a.start(), b.start()]);
    await converged('the start');
    const revision = async (): Promise<unknown> =>
      (await schema.query('SELECT max(revision) AS newest, count(*) AS entries FROM tokenmirror_entries'))[0];
    const before = await revision();
    const files = Object.keys(readCredentials(b.authDir)).map((name) => statSync(join(b.authDir, name)).mtimeMs);
    let polls = 0;
    await until('several polls and sweeps passed', () => (polls += 1) > 300);
    expect(await revision()).toEqual(before);
    expect(Object.keys(readCredentials(b.authDir)).map((name) => statSync(join(b.authDir, name)).mtimeMs)).toEqual(files);
  });
});

describe('five daemons on one Postgres', () => {
  test('incident 13: that start with different content settle, and then write nothing', async () => {
    const replicas = Array.from({ length: 5 }, () => daemon());
    for (const [n, { authDir, configFile }] of replicas.entries()) {
      writeFileSync(join(authDir, 'shared.json'), credential({ note: `from ${String(n)}`, [`only-${String(n)}`]: n }));
      writeFileSync(join(authDir, `own-${String(n)}.json`), credential());
      writeFileSync(configFile, `port: ${String(n)}\napi-keys:\n  - k1\nextra-${String(n)}: true\n`);
    }
    await Promise.all(replicas.map((replica) => replica.start()));
    const stored = await converged('five different starts');
    expect(Object.keys(stored)).toHaveLength(6);
    for (let n = 0; n < 5; n += 1) expect(stored['shared.json']).toHaveProperty(`only-${String(n)}`, n);
    const revisions = async (): Promise<string> =>
      JSON.stringify(await schema.query("SELECT key, revision FROM tokenmirror_entries WHERE key NOT LIKE 'replicas/%' ORDER BY key"));
    await until('the configs settled', () =>
      replicas.every(({ configFile }) =>
        [0, 1, 2, 3, 4].every((n) => readFileSync(configFile, 'utf8').includes(`extra-${String(n)}: true`)),
      ),
    );
    let last = '';
    let calm = 0;
    await until('no more writes for a while', async () => {
      const now = await revisions();
      calm = now === last ? calm + 1 : 0;
      last = now;
      return calm > 100;
    });
  });

  test('killed with -9 at random moments, over and over, lose nothing and end up equal', async () => {
    const replicas = Array.from({ length: 5 }, () => daemon());
    await Promise.all(replicas.map((replica) => replica.start()));
    const expected = new Map<string, string>();
    let random = 20261121;
    const next = (below: number): number => {
      random = (random * 1103515245 + 12345) % 2147483648;
      return random % below;
    };
    for (let round = 0; round < 12; round += 1) {
      const victim = replicas[next(5)] as DaemonProcess;
      for (let n = 0; n < 10; n += 1) {
        const writer = replicas[next(5)] as DaemonProcess;
        const name = `c-${String(round)}-${String(n)}.json`;
        const note = `round ${String(round)}`;
        writeInPlace(join(writer.authDir, name), credential({ note }));
        expected.set(name, note);
        if (n === next(10)) await victim.kill();
      }
      await victim.kill();
      await victim.start();
    }
    await until('everything arrived', async () => Object.keys(await storedCredentials()).length === expected.size);
    const stored = await converged('after the kills', 60_000);
    for (const [name, note] of expected) expect(stored[name]).toHaveProperty('note', note);
  });
});

describe('outages', () => {
  test('Postgres stopped and started: work goes on, nothing is deleted, all catches up by itself', async () => {
    const server = await PostgresServer.create();
    const own = await createSchema(server.url());
    const pair = [daemon(own.dsn), daemon(own.dsn)] as const;
    const environment = { PGSTORE_DSN: own.dsn, PGSTORE_SCHEMA: schema.schema };
    try {
      writeFileSync(join(pair[0].authDir, 'c.json'), credential());
      await Promise.all(pair.map((each) => each.start()));
      await until('in sync', () => existsSync(join(pair[1].authDir, 'c.json')));
      await server.stop();
      writeFileSync(join(pair[0].authDir, 'during.json'), credential({ note: 'during the outage' }));
      unlinkSync(join(pair[1].authDir, 'c.json'));
      await until('the outage is noticed', () => pair.every((each) => each.logged('store-unreachable')));
      const status = await runCommand(['status', '--workspace', pair[0].workspace], environment);
      expect(status).toMatchObject({ exitCode: 1, stdout: expect.stringContaining('out of reach') });
      expect(existsSync(join(pair[0].authDir, 'c.json'))).toBe(true);
      await server.start();
      await until(
        'both came back',
        () => existsSync(join(pair[1].authDir, 'during.json')) && !existsSync(join(pair[0].authDir, 'c.json')),
        40_000,
      );
      expect(pair.every((each) => each.isRunning)).toBe(true);
    } finally {
      for (const each of pair) await each.kill();
      await own.destroy().catch(() => undefined);
      await server.destroy();
    }
  });

  test('a daemon that starts while Postgres is down waits, and says so', async () => {
    const server = await PostgresServer.create();
    const own = await createSchema(server.url());
    const waiting = daemon(own.dsn);
    try {
      writeFileSync(join(waiting.authDir, 'c.json'), credential());
      await server.stop();
      waiting.launch();
      await until('it says that it waits', () => waiting.logged('store-unreachable'));
      expect(await waiting.stop()).toBe(0);
      waiting.launch();
      await until('it waits again', () => waiting.logged('store-unreachable'));
      await server.start();
      await until('it is ready', () => waiting.logged('ready'), 40_000);
    } finally {
      await waiting.kill();
      await own.destroy().catch(() => undefined);
      await server.destroy();
    }
  });

  test('a network that goes silent is found out, and left for a new connection', async () => {
    const proxy = await SilentProxy.before(Number(new URL(schema.dsn).port));
    const url = new URL(schema.dsn);
    url.port = String(proxy.port);
    const [behind, direct] = [daemon(url.href, ['--poll-interval', '1s']), daemon()];
    try {
      await Promise.all([behind.start(), direct.start()]);
      proxy.goSilent();
      writeFileSync(join(behind.authDir, 'silent.json'), credential());
      await until('the silence is noticed', () => behind.logged('store-unreachable'), 30_000);
      proxy.speak();
      await until('it arrived all the same', () => existsSync(join(direct.authDir, 'silent.json')), 40_000);
      writeFileSync(join(direct.authDir, 'back.json'), credential());
      await until('and the other way', () => existsSync(join(behind.authDir, 'back.json')), 40_000);
    } finally {
      await behind.kill();
      await proxy.close();
    }
  });
});

test('where notifications do not arrive, the store is asked every second instead', async () => {
  const proxy = await SilentProxy.before(Number(new URL(schema.dsn).port), { swallowNotifications: true });
  const url = new URL(schema.dsn);
  url.port = String(proxy.port);
  const [behind, direct] = [daemon(url.href, ['--poll-interval', '1h']), daemon()];
  try {
    await Promise.all([behind.start(), direct.start()]);
    writeFileSync(join(direct.authDir, 'polled.json'), credential());
    await until('it arrived without a notification', () => existsSync(join(behind.authDir, 'polled.json')));
  } finally {
    await behind.kill();
    await proxy.close();
  }
});

describe('deletions', () => {
  test('incident 5: a wiped auth directory is no deletion; it is filled again', async () => {
    const [a, b] = [daemon(), daemon()];
    for (let n = 0; n < 4; n += 1) writeFileSync(join(a.authDir, `c-${String(n)}.json`), credential());
    await Promise.all([a.start(), b.start()]);
    await converged('the start');
    rmSync(a.authDir, { recursive: true });
    await until('the loss is noticed', () => a.logged('workspace-missing') || a.logged('rehydrating'));
    mkdirSync(a.authDir, { recursive: true });
    await until('all is back', () => Object.keys(readCredentials(a.authDir)).length === 4);
    expect(Object.keys(await storedCredentials())).toHaveLength(4);
    writeFileSync(join(a.authDir, 'after.json'), credential());
    await until('and the watch works again', () => existsSync(join(b.authDir, 'after.json')));
  });

  test('so many at once that it looks like an accident are frozen, until they are forced', async () => {
    const [a, b] = [daemon(), daemon()];
    for (let n = 0; n < 8; n += 1) writeFileSync(join(a.authDir, `c-${String(n)}.json`), credential());
    await Promise.all([a.start(), b.start()]);
    await converged('the start');
    for (let n = 0; n < 7; n += 1) unlinkSync(join(a.authDir, `c-${String(n)}.json`));
    await until('they are frozen', () => a.logged('deletions-frozen'));
    writeFileSync(join(a.authDir, 'new.json'), credential());
    await until('everything else goes on', () => existsSync(join(b.authDir, 'new.json')));
    expect(Object.keys(readCredentials(b.authDir))).toHaveLength(9);
    expect(await a.stop()).toBe(0);
    const environment = { PGSTORE_DSN: schema.dsn, PGSTORE_SCHEMA: schema.schema };
    const again = await runCommand(['sync', '--workspace', a.workspace], environment);
    expect(again).toMatchObject({ exitCode: 1, stdout: expect.stringContaining('7 deletions are frozen') });
    const forced = await runCommand(['sync', '--force', '--workspace', a.workspace], environment);
    expect(forced.exitCode).toBe(0);
    expect(Object.keys(await storedCredentials())).toEqual(['c-7.json', 'new.json']);
  });

  test('after TRUNCATE the documents are put back', async () => {
    const a = daemon();
    for (let n = 0; n < 5; n += 1) writeFileSync(join(a.authDir, `c-${String(n)}.json`), credential());
    await a.start();
    await schema.query('TRUNCATE auth_store');
    await until('they are back in the table', async () => Object.keys(await storedCredentials()).length === 5);
    expect(Object.keys(readCredentials(a.authDir))).toHaveLength(5);
  });
});

describe('identity', () => {
  test('a second daemon on one workspace stops with a clear message', async () => {
    const a = daemon();
    await a.start();
    const second = await runCommand(['run', '--workspace', a.workspace], { PGSTORE_DSN: schema.dsn, PGSTORE_SCHEMA: schema.schema });
    expect(second).toMatchObject({
      exitCode: 3,
      stderr: expect.stringContaining(`WORKSPACE_BUSY another Tokenmirror (process ${String(a.pid)})`),
    });
  });

  test('a cloned machine: the second daemon under one id stops, the first goes on', async () => {
    const [a, clone] = [daemon(), daemon()];
    await a.start();
    cpSync(join(a.authDir, '.tokenmirror-replica'), join(clone.authDir, '.tokenmirror-replica'));
    clone.launch();
    expect(await clone.ended()).toBe(3);
    expect(clone.output).toContain('REPLICA_DUPLICATE');
    expect(a.isRunning).toBe(true);
  });

  test('a workspace of another cluster is refused, until it is adopted', async () => {
    const a = daemon();
    writeFileSync(join(a.authDir, 'c.json'), credential());
    await a.start();
    await a.stop();
    await schema.query('DROP TABLE tokenmirror_meta, tokenmirror_entries, tokenmirror_history CASCADE');
    const environment = { PGSTORE_DSN: schema.dsn, PGSTORE_SCHEMA: schema.schema };
    const refused = await runCommand(['sync', '--workspace', a.workspace], environment);
    expect(refused).toMatchObject({ exitCode: 5, stderr: expect.stringContaining('CLUSTER_FOREIGN') });
    expect((await runCommand(['sync', '--adopt', '--workspace', a.workspace], environment)).exitCode).toBe(0);
    expect(Object.keys(await storedCredentials())).toEqual(['c.json']);
  });
});
