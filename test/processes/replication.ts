import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, chmodSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  credential,
  DaemonProcess,
  readCredentials,
  renameOver,
  runCommand,
  SilentProxy,
  temporaryDirectory,
  until,
  writeInPlace,
} from '@tokenmirror/testkit';
import { STORE_SERVERS, type StoreKind, type StorePlace, type StoreServer } from '../store-places.js';

export interface ReplicationOptions {
  /** Credentials in a burst. */
  readonly burst: number;
  /** Kills among five daemons. */
  readonly kills: number;
}

/** Defines what real daemons do together, with one kind of store as their authority. */
export function describeReplication(kind: StoreKind, { burst, kills }: ReplicationOptions): void {
  let place: StoreServer;
  let daemons: DaemonProcess[];

  beforeEach(async () => {
    place = await STORE_SERVERS[kind]();
    daemons = [];
  });

  afterEach(async () => {
    for (const daemon of daemons) await daemon.kill();
    await place.destroy();
  });

  afterAll(cleanTemporaryDirectories);

  function daemon(environment: Readonly<Record<string, string>> = place.environment, args: readonly string[] = []): DaemonProcess {
    const made = new DaemonProcess(temporaryDirectory('replica'), ['--store-timeout', '2s', '--custody', 'off', ...args], environment);
    daemons.push(made);
    return made;
  }

  async function storedCredentials(at: StorePlace = place): Promise<Record<string, unknown>> {
    const found = [...(await at.documents())].filter(([path]) => path.startsWith('auths/'));
    return Object.fromEntries(
      found.map(([path, text]): [string, unknown] => [path.slice(6), JSON.parse(text)]).sort(([a], [b]) => (a < b ? -1 : 1)),
    );
  }

  /** Waits until the store and every workspace hold the same credentials, and returns them. */
  async function converged(what: string): Promise<Record<string, unknown>> {
    let stored: Record<string, unknown> = {};
    await until(what, async () => {
      stored = await storedCredentials();
      const wanted = canonical(stored);
      return daemons.every(({ authDir }) => canonical(readCredentials(authDir)) === wanted);
    });
    return stored;
  }

  describe(`two daemons on ${kind}`, () => {
    test('carry every file operation of a person and of CLIProxyAPI', async () => {
      const [a, b] = [daemon(), daemon()];
      const file = (at: DaemonProcess, name: string): string => join(at.authDir, name);
      writeFileSync(file(a, 'claude-1.json'), credential());
      await Promise.all([a.start(), b.start()]);
      await converged('what was there at the start');

      writeInPlace(file(a, 'claude-2.json'), credential());
      writeInPlace(file(b, 'claude-1.json'), credential({ note: 'from b' }));
      await until('both are stored', async () => {
        const stored = await storedCredentials();
        return 'claude-2.json' in stored && JSON.stringify(stored['claude-1.json']).includes('from b');
      });
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

      for (let n = 0; n < burst; n += 1) writeInPlace(file(n % 2 === 0 ? a : b, `burst-${String(n)}.json`), credential());
      const all = burst + 2;
      await until('the burst reached the store', async () => Object.keys(await storedCredentials()).length === all);
      expect(Object.keys(await converged(`a burst of ${String(burst)}`))).toHaveLength(all);
      expect(statSync(file(b, 'burst-0.json')).mode & 0o777).toBe(0o600);

      const verified = await runCommand(['verify', '--workspace', a.workspace], { ...place.environment, TOKENMIRROR_CUSTODY: 'off' });
      expect(verified).toMatchObject({
        exitCode: 0,
        stdout: expect.stringContaining(`workspace: ${String(all)} of ${String(all)} documents are equal`),
      });
      expect(await a.stop()).toBe(0);
      expect(await b.stop()).toBe(0);
    });

    test('take what CLIProxyAPI itself writes into its store, and write what it can start from', async () => {
      await place.foreignWrite('auths/claude-old.json', credential({ note: 'before us' }));
      await place.foreignWrite('config/config.yaml', 'port: 8317\napi-keys:\n  - k1\n');
      const [a, b] = [daemon(), daemon()];
      await Promise.all([a.start(), b.start()]);
      await converged('what was there before');
      await until('the config, too', () => existsSync(a.configFile));
      expect(readFileSync(a.configFile, 'utf8')).toBe('port: 8317\napi-keys:\n  - k1\n');

      await place.foreignWrite('auths/codex-new.json', credential({ note: 'by upstream' }));
      await place.foreignWrite('auths/claude-old.json', credential({ note: 'changed by upstream' }));
      await until(
        'both arrived',
        () =>
          existsSync(join(b.authDir, 'codex-new.json')) &&
          readFileSync(join(b.authDir, 'claude-old.json'), 'utf8').includes('changed by upstream'),
      );

      const text = credential({ note: 'ours', nested: { b: [1, 2], a: null } });
      writeFileSync(join(a.authDir, 'ours.json'), text);
      await until('it is in the store', async () => 'ours.json' in (await storedCredentials()));
      expect((await storedCredentials())['ours.json']).toEqual(JSON.parse(text));
      expect((await place.documents()).get('config/config.yaml')).toBe('port: 8317\napi-keys:\n  - k1\n');
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

    test('do nothing when nothing happens', async () => {
      const args = ['--poll-interval', '200ms', '--sweep-interval', '300ms'];
      const [a, b] = [daemon(place.environment, args), daemon(place.environment, args)];
      for (let n = 0; n < 20; n += 1) writeFileSync(join(a.authDir, `c-${String(n)}.json`), credential());
      writeFileSync(a.configFile, 'port: 1\napi-keys:\n  - k1\n');
      await Promise.all([a.start(), b.start()]);
      await converged('the start');
      await calm();
      const before = await place.head();
      const files = Object.keys(readCredentials(b.authDir)).map((name) => statSync(join(b.authDir, name)).mtimeMs);
      const end = performance.now() + 3000;
      await until('several polls and sweeps passed', () => performance.now() > end);
      expect(await place.head()).toEqual(before);
      expect(Object.keys(readCredentials(b.authDir)).map((name) => statSync(join(b.authDir, name)).mtimeMs)).toEqual(files);
    });
  });

  /** Waits until nobody has written for a second. */
  async function calm(): Promise<void> {
    let last = '';
    let since = performance.now();
    await until('no more writes for a while', async () => {
      const now = await place.head();
      if (now !== last) since = performance.now();
      last = now;
      return performance.now() - since > 1000;
    });
  }

  describe(`five daemons on ${kind}`, () => {
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
      await until('the configs settled', () =>
        replicas.every(({ configFile }) =>
          [0, 1, 2, 3, 4].every((n) => readFileSync(configFile, 'utf8').includes(`extra-${String(n)}: true`)),
        ),
      );
      await calm();
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
      for (let round = 0; round < kills; round += 1) {
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
      const stored = await converged('after the kills');
      for (const [name, note] of expected) expect(stored[name]).toHaveProperty('note', note);
    });
  });

  describe(`outages of ${kind}`, () => {
    test('stopped and started: work goes on, nothing is deleted, all catches up by itself', async () => {
      const pair = [daemon(), daemon()] as const;
      writeFileSync(join(pair[0].authDir, 'c.json'), credential());
      await Promise.all(pair.map((each) => each.start()));
      await until('in sync', () => existsSync(join(pair[1].authDir, 'c.json')));
      await place.down();
      writeFileSync(join(pair[0].authDir, 'during.json'), credential({ note: 'during the outage' }));
      unlinkSync(join(pair[1].authDir, 'c.json'));
      await until('the outage is noticed', () => pair.every((each) => each.logged('store-unreachable')));
      const status = await runCommand(['status', '--workspace', pair[0].workspace], { ...place.environment, TOKENMIRROR_CUSTODY: 'off' });
      expect(status).toMatchObject({ exitCode: 1, stdout: expect.stringContaining('out of reach') });
      expect(existsSync(join(pair[0].authDir, 'c.json'))).toBe(true);
      await place.up();
      await until('both came back', () => existsSync(join(pair[1].authDir, 'during.json')) && !existsSync(join(pair[0].authDir, 'c.json')));
      expect(pair.every((each) => each.isRunning)).toBe(true);
    });

    if (kind === 'filesystem') return;

    test('a daemon that starts while it is down waits, and says so', async () => {
      const waiting = daemon();
      writeFileSync(join(waiting.authDir, 'c.json'), credential());
      await place.down();
      waiting.launch();
      await until('it says that it waits', () => waiting.logged('store-unreachable'));
      expect(await waiting.stop()).toBe(0);
      waiting.launch();
      await until('it waits again', () => waiting.logged('store-unreachable'));
      await place.up();
      await until('it is ready', () => waiting.logged('ready'));
    });

    test('a network that goes silent is found out, and left for a new connection', async () => {
      const { port, environmentAt } = networkOf(place);
      const proxy = await SilentProxy.before(port);
      const [behind, direct] = [daemon(environmentAt(proxy.port), ['--poll-interval', '1s']), daemon()];
      try {
        await Promise.all([behind.start(), direct.start()]);
        proxy.goSilent();
        writeFileSync(join(behind.authDir, 'silent.json'), credential());
        await until('the silence is noticed', () => behind.logged('store-unreachable'));
        proxy.speak();
        await until('it arrived all the same', () => existsSync(join(direct.authDir, 'silent.json')));
        writeFileSync(join(direct.authDir, 'back.json'), credential());
        await until('and the other way', () => existsSync(join(behind.authDir, 'back.json')));
      } finally {
        await behind.kill();
        await proxy.close();
      }
    });
  });

  describe(`deletions on ${kind}`, () => {
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
      const again = await runCommand(['sync', '--workspace', a.workspace], { ...place.environment, TOKENMIRROR_CUSTODY: 'off' });
      expect(again).toMatchObject({ exitCode: 1, stdout: expect.stringContaining('7 deletions are frozen') });
      const forced = await runCommand(['sync', '--force', '--workspace', a.workspace], {
        ...place.environment,
        TOKENMIRROR_CUSTODY: 'off',
      });
      expect(forced.exitCode).toBe(0);
      expect(Object.keys(await storedCredentials())).toEqual(['c-7.json', 'new.json']);
    });
  });

  describe(`identity on ${kind}`, () => {
    test('a second daemon on one workspace stops with a clear message', async () => {
      const a = daemon();
      await a.start();
      const second = await runCommand(['run', '--workspace', a.workspace], { ...place.environment, TOKENMIRROR_CUSTODY: 'off' });
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
      const other = await STORE_SERVERS[kind]();
      try {
        const refused = await runCommand(['sync', '--workspace', a.workspace], other.environment);
        expect(refused).toMatchObject({ exitCode: 5, stderr: expect.stringContaining('CLUSTER_FOREIGN') });
        expect((await runCommand(['sync', '--adopt', '--workspace', a.workspace], other.environment)).exitCode).toBe(0);
        expect(Object.keys(await storedCredentials(other))).toEqual(['c.json']);
      } finally {
        await other.destroy();
      }
    });
  });
}

function networkOf({ network }: StoreServer): NonNullable<StoreServer['network']> {
  if (network === undefined) throw new Error('this place has no network');
  return network;
}

function canonical(credentials: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(Object.entries(credentials).map(([name, value]) => [name, sorted(value)]));
}

function sorted(value: unknown): unknown {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value;
}
