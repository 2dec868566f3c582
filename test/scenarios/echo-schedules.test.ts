import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  accessTokenOf,
  DEFAULT_HOST_SECTIONS,
  Engine,
  extendLineage,
  Hasher,
  silentLog,
  withoutCustody,
  workspaceLens,
  type Base,
  type BaseRecords,
  type Clock,
  type ClusterIdentity,
  type DocumentKey,
  type JsonObject,
} from '@tokenmirror/core';
import { FilesystemStore } from '@tokenmirror/store-filesystem';
import { cleanTemporaryDirectories, temporaryDirectory, until } from '@tokenmirror/testkit';
import { BaseJournal, DirectoryWorkspace } from '@tokenmirror/workspace';

afterAll(cleanTemporaryDirectories);

/** Real time, which a test can let leap ahead. */
class LeapingClock implements Clock {
  ahead = 0;
  now = (): number => Date.now() + this.ahead;
  monotonic = (): number => performance.now() + this.ahead;
  after(ms: number, callback: () => void): () => void {
    const timer = setTimeout(callback, ms);
    return () => {
      clearTimeout(timer);
    };
  }
}

/** A replica in parts, so that a schedule can stop it between any two steps: its engine runs only while a pass does. */
class Schedule {
  readonly clock = new LeapingClock();
  readonly authDir = temporaryDirectory('schedule');
  readonly #stateDir = temporaryDirectory('schedule-state');
  readonly #store: FilesystemStore;
  readonly #key: DocumentKey;
  readonly file: string;
  /** Power fails as soon as the file is gone: nothing is recorded any more. */
  losesPowerAtRemoval = false;
  #cluster: ClusterIdentity | undefined;
  engine: Engine | undefined;
  #workspace: DirectoryWorkspace | undefined;

  constructor(path = 'a.json') {
    this.#store = new FilesystemStore({ directory: join(temporaryDirectory('schedule-store'), 'store') });
    this.#key = `auths/${path}` as DocumentKey;
    this.file = join(this.authDir, path);
    mkdirSync(dirname(this.file), { recursive: true });
  }

  async start(): Promise<void> {
    this.#cluster ??= await this.#store.open('create');
    if (this.#cluster === undefined) throw new Error('no cluster');
    const workspace = new DirectoryWorkspace(
      { authDir: this.authDir, configFile: undefined, stateDir: this.#stateDir },
      this.clock,
      silentLog,
      1 << 20,
    );
    await workspace.recover();
    const journal = await BaseJournal.open(this.#stateDir, { cluster: this.#cluster.id, store: 'store', replica: 'replica-1' });
    this.#workspace = workspace;
    this.engine = new Engine(
      {
        workspace,
        store: this.#store,
        cluster: this.#cluster,
        bases: this.#throughPowerLoss(journal),
        clock: this.clock,
        random: Math.random,
        replicaId: 'replica-1',
        custody: withoutCustody(workspaceLens(new Set(DEFAULT_HOST_SECTIONS))),
        emit: () => undefined,
      },
      { hostSections: new Set(DEFAULT_HOST_SECTIONS), maxDocumentBytes: 1 << 20, pollMs: 100, sweepMs: 300, echoMs: 5000, force: true },
    );
  }

  /** A full pass, as `sync` does; the engine looks at nothing afterwards. */
  async pass(): Promise<void> {
    await this.engine?.pass();
  }

  /** `kill -9`: nothing is tidied up. */
  async kill(): Promise<void> {
    await this.engine?.stop();
    this.engine = undefined;
  }

  async stop(): Promise<void> {
    await this.kill();
    this.#workspace?.release();
  }

  async restart(): Promise<void> {
    await this.kill();
    await this.start();
    await this.pass();
  }

  /** Another replica writes, or deletes. */
  async store(fields: JsonObject | undefined): Promise<void> {
    const entry = (await this.#store.read([this.#key])).get(this.#key);
    const token = fields === undefined ? undefined : accessTokenOf(fields);
    const fingerprint = token === undefined ? undefined : new Hasher(this.#cluster?.key ?? '').fingerprint(token);
    const lineage = extendLineage(entry?.lineage ?? [], fingerprint);
    const content = fields === undefined ? null : JSON.stringify(fields);
    const [outcome] = await this.#store.write([{ key: this.#key, expected: entry?.revision ?? 'absent', content, lineage }], 'another');
    if (outcome?.status !== 'written') throw new Error('not written');
  }

  async stored(): Promise<JsonObject | undefined> {
    const entry = (await this.#store.read([this.#key])).get(this.#key);
    return entry?.state === 'live' ? (JSON.parse(entry.content) as JsonObject) : undefined;
  }

  /** Why each kept version is in the history. */
  async archived(): Promise<string[]> {
    return (await this.#store.history.versions(this.#key)).map(({ reason }) => reason);
  }

  show(fields: JsonObject): void {
    writeFileSync(this.file, JSON.stringify(fields));
  }

  shown(): JsonObject {
    return JSON.parse(readFileSync(this.file, 'utf8')) as JsonObject;
  }

  /** CLIProxyAPI has opened the file, and writes what it has in mind after the file was replaced. */
  opened(): (fields: JsonObject) => void {
    const descriptor = openSync(this.file, 'r+');
    return (fields) => {
      ftruncateSync(descriptor, 0);
      writeSync(descriptor, JSON.stringify(fields), 0);
      closeSync(descriptor);
    };
  }

  #throughPowerLoss(journal: BaseJournal): BaseRecords {
    const isLost = (): boolean => this.losesPowerAtRemoval && !existsSync(this.file);
    return {
      get: (key) => journal.get(key),
      keys: () => journal.keys(),
      set: (base: Base) => (isLost() ? Promise.resolve() : journal.set(base)),
      delete: (key) => (isLost() ? Promise.resolve() : journal.delete(key)),
    };
  }
}

const grant = (n: number): JsonObject => ({
  access_token: `access-${String(n)}`,
  refresh_token: `refresh-${String(n)}`,
  expired: new Date(1_760_000_000_000 + n * 60_000).toISOString(),
});
const FIRST: JsonObject = { type: 'claude', disabled: false, note: 'old', ...grant(1) };
const SECOND: JsonObject = { ...FIRST, note: 'new' };

let replica: Schedule;

async function begin(path?: string, fields = FIRST): Promise<void> {
  replica = new Schedule(path);
  await replica.start();
  replica.show(fields);
  await replica.pass();
}

beforeEach(() => begin());
afterEach(() => replica.kill());

describe('an echo', () => {
  test('that nobody saw for a minute is told by the time of its file', async () => {
    await replica.store(SECOND);
    await replica.pass();
    await replica.stop();
    replica.show(FIRST);
    replica.clock.ahead += 60_000;
    await replica.restart();
    expect(await replica.stored()).toMatchObject({ note: 'new' });
    expect(replica.shown()).toMatchObject({ note: 'new' });
  });

  test('is one although the clock was put back', async () => {
    await replica.store(SECOND);
    replica.clock.ahead = 1000;
    await replica.pass();
    replica.clock.ahead = 0;
    replica.show(FIRST);
    await replica.pass();
    expect(await replica.stored()).toMatchObject({ note: 'new' });
  });

  test('of a credential in a sub-directory, which CLIProxyAPI does not read again, is one for longer', async () => {
    await begin('team/a.json');
    await replica.store(SECOND);
    await replica.pass();
    replica.clock.ahead += 20_000;
    replica.show(FIRST);
    await replica.pass();
    expect(await replica.stored()).toMatchObject({ note: 'new' });
  });

  test('is looked for until the file has stayed right, pushes in between or not', async () => {
    await replica.store(SECOND);
    await replica.pass();
    replica.show({ ...SECOND, claude_device_ids: ['x'] });
    await until('the device ids are stored', async () => (await replica.stored())?.['claude_device_ids'] !== undefined);
    replica.show(FIRST);
    await until('it is repaired, without a watch', () => replica.shown()['note'] === 'new', 2500);
  });

  test('beside an edit counts the edit, and archives what it undid', async () => {
    replica.show({ ...FIRST, note: 'b' });
    await replica.pass();
    replica.show({ ...FIRST, priority: 5 });
    await replica.pass();
    expect(await replica.stored()).toMatchObject({ note: 'b', priority: 5 });
    expect(await replica.archived()).toContain('lost a merge: note');
  });
});

describe('what is written into a file that was replaced just then', () => {
  test('counts when it is a new grant, also after a restart', async () => {
    const writeLate = replica.opened();
    await replica.store(SECOND);
    await replica.pass();
    await replica.kill();
    writeLate({ ...FIRST, ...grant(2) });
    await replica.restart();
    expect(await replica.stored()).toMatchObject({ note: 'new', ...grant(2) });
    expect(replica.shown()).toMatchObject({ note: 'new', ...grant(2) });
  });

  test('does not beat a newer grant that the file has', async () => {
    const writeLate = replica.opened();
    await replica.store(SECOND);
    await replica.pass();
    await replica.kill();
    writeLate({ ...FIRST, ...grant(2) });
    replica.show({ ...SECOND, ...grant(3) });
    await replica.restart();
    expect(replica.shown()).toMatchObject(grant(3));
    expect(await replica.stored()).toMatchObject(grant(3));
  });

  test('is nothing new when it is the old content in other words, however late it is found', async () => {
    const writeLate = replica.opened();
    await replica.store(SECOND);
    await replica.pass();
    writeLate(Object.fromEntries(Object.entries(FIRST).reverse()));
    await replica.pass();
    replica.clock.ahead += 180_000;
    await replica.restart();
    expect(await replica.stored()).toMatchObject({ note: 'new' });
  });

  test('does not bring a deleted credential back', async () => {
    const writeLate = replica.opened();
    await replica.store(undefined);
    await replica.pass();
    writeLate(Object.fromEntries(Object.entries(FIRST).reverse()));
    await replica.pass();
    await replica.restart();
    expect(await replica.stored()).toBeUndefined();
    expect(existsSync(replica.file)).toBe(false);
  });
});

describe('a deletion', () => {
  test('that was cut off right after the file was removed deletes nobody who comes back', async () => {
    await replica.store(undefined);
    replica.losesPowerAtRemoval = true;
    await replica.pass();
    await replica.kill();
    replica.losesPowerAtRemoval = false;
    await replica.store(FIRST);
    await replica.restart();
    expect(await replica.stored()).toEqual(FIRST);
    expect(replica.shown()).toEqual(FIRST);
  });

  test('is not undone by what CLIProxyAPI adds by itself', async () => {
    const bare: JsonObject = { type: 'claude', note: 'old', ...grant(1) };
    await begin('a.json', bare);
    await replica.stop();
    await replica.store(undefined);
    replica.show({ ...bare, disabled: false, claude_device_ids: ['x'] });
    await replica.restart();
    expect(await replica.stored()).toBeUndefined();
    expect(existsSync(replica.file)).toBe(false);
  });

  test('leaves no copy of the credential behind, killed daemons or not', async () => {
    await replica.store(undefined);
    await replica.pass();
    expect(readdirSync(replica.authDir).some((name) => name.endsWith('.replaced'))).toBe(true);
    await replica.kill();
    replica.clock.ahead += 200_000;
    await replica.restart();
    expect(readdirSync(replica.authDir)).toEqual(['.tokenmirror-replica']);
  });

  test('during which the marker is lost does not come back disabled', async () => {
    await replica.store(undefined);
    const pass = replica.pass();
    await until('it is disabled', () => replica.shown()['disabled'] === true);
    await replica.kill();
    await pass;
    rmSync(join(replica.authDir, '.tokenmirror-replica'));
    await replica.restart();
    expect((await replica.stored())?.['disabled'] ?? false).toBe(false);
  });
});
