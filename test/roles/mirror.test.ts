import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  Hasher,
  Mirror,
  TokenmirrorError,
  type Clock,
  type ClusterIdentity,
  type DocumentKey,
  type Fingerprint,
  type MirrorEvent,
  type TokenStore,
} from '@tokenmirror/core';
import { systemClock } from '@tokenmirror/service';
import { FilesystemStore } from '@tokenmirror/store-filesystem';
import { cleanTemporaryDirectories, temporaryDirectory, until } from '@tokenmirror/testkit';

const [A, B] = ['auths/claude-a.json', 'auths/codex-b.json'] as DocumentKey[] as [DocumentKey, DocumentKey];

let authority: FilesystemStore;
let cluster: ClusterIdentity;
let directory: string;
let events: MirrorEvent[];
let mirrors: Mirror[];

beforeEach(async () => {
  directory = temporaryDirectory('roles');
  authority = new FilesystemStore({ directory: join(directory, 'authority') });
  cluster = (await authority.open('create')) as ClusterIdentity;
  events = [];
  mirrors = [];
});

afterEach(async () => {
  for (const mirror of mirrors) await mirror.stop();
});
afterAll(cleanTemporaryDirectories);

const text = (token: string, more: object = {}): string =>
  JSON.stringify({ type: 'claude', access_token: token, refresh_token: `r-${token}`, ...more });
const fingerprint = (token: string): Fingerprint => new Hasher(cluster.key).fingerprint(token);

function mirrorOf(
  store: TokenStore,
  more: Partial<{
    force: boolean;
    adopt: boolean;
    clock: Clock;
    from: TokenStore;
    others: readonly TokenStore[];
    cluster: ClusterIdentity;
  }> = {},
): Mirror {
  const mirror = new Mirror(
    {
      name: 'copy',
      store,
      authority: more.from ?? authority,
      cluster: more.cluster ?? cluster,
      replicaId: 'replica-1',
      clock: more.clock ?? systemClock,
      random: Math.random,
      others: () => more.others ?? [],
      emit: (event) => {
        if (event.type !== 'mirror-open' && event.type !== 'mirror-caught-up') events.push(event);
      },
    },
    { maxDocumentBytes: 1 << 20, intervalMs: 3_600_000, force: more.force ?? false, adopt: more.adopt ?? false },
  );
  mirrors.push(mirror);
  return mirror;
}

const copyAt = (name = 'copy'): FilesystemStore => new FilesystemStore({ directory: join(directory, name) });

async function put(store: TokenStore, key: DocumentKey, content: string | null, lineage: readonly Fingerprint[] = []): Promise<void> {
  const expected = (await store.read([key])).get(key)?.revision ?? 'absent';
  const [outcome] = await store.write([{ key, expected, content, lineage }], 'somebody');
  expect(outcome?.status).toBe('written');
}

async function held(store: TokenStore, key: DocumentKey): Promise<string | undefined> {
  const entry = (await store.read([key])).get(key);
  return entry?.state === 'live' ? entry.content : entry?.state;
}

describe('a mirror', () => {
  test('takes what there is, follows a change at once, and keeps what was replaced in its own history', async () => {
    const store = copyAt();
    const mirror = mirrorOf(store);
    await put(authority, A, text('1'), [fingerprint('1')]);
    await mirror.settle();
    expect((await store.read([A])).get(A)).toMatchObject({ content: text('1'), lineage: [fingerprint('1')] });
    await put(authority, A, text('2'));
    mirror.look(A);
    await until('the change is copied', async () => (await held(store, A)) === text('2'));
    const [version] = await store.history.versions(A);
    expect(await store.history.content(A, version?.id ?? '')).toBe(text('1'));
    await until('it is in step', () => mirror.status.state === 'in step');
  });

  test('that is written by two replicas at once ends up equal, and a second comparison writes nothing', async () => {
    const keys = Array.from({ length: 40 }, (_, n) => `auths/many-${String(n)}.json` as DocumentKey);
    for (const key of keys) await put(authority, key, text(key));
    const [one, two] = [mirrorOf(copyAt()), mirrorOf(copyAt())];
    await Promise.all([one.settle(), two.settle()]);
    const store = copyAt();
    await store.open('look');
    for (const key of keys) expect(await held(store, key)).toBe(text(key));
    const { cursor } = await store.list();
    await Promise.all([one.settle(), two.settle()]);
    expect((await store.list(cursor)).entries).toEqual([]);
  });

  test('freezes a mass deletion, keeps what was deleted, and lets it through when it is forced', async () => {
    const keys = Array.from({ length: 6 }, (_, n) => `auths/many-${String(n)}.json` as DocumentKey);
    for (const key of keys) await put(authority, key, text(key));
    const store = copyAt();
    const mirror = mirrorOf(store);
    await mirror.settle();
    for (const key of keys.slice(1)) await put(authority, key, null);
    await mirror.settle();
    await mirror.settle();
    expect(mirror.status).toMatchObject({ state: 'behind', frozenDeletions: 5 });
    expect(events.filter(({ type }) => type === 'mirror-frozen')).toHaveLength(1);
    expect(await held(store, keys[5] ?? A)).toBe(text(keys[5] ?? A));

    await mirrorOf(copyAt(), { force: true }).settle();
    expect(await held(store, keys[5] ?? A)).toBe('deleted');
    expect(await held(store, keys[0] ?? A)).toBe(text(keys[0] ?? A));
  });

  test('does not give up a newer grant for the older one of an authority that went back in time', async () => {
    const store = copyAt();
    const lineage = [fingerprint('old'), fingerprint('new')];
    const mirror = mirrorOf(store);
    await store.open('create');
    await put(store, A, text('new'), lineage);
    await put(authority, A, text('old'), [fingerprint('old')]);
    await mirror.settle();
    await mirror.settle();
    expect(await held(store, A)).toBe(text('new'));
    expect(await held(authority, A)).toBe(text('old'));
    expect(mirror.status).toMatchObject({ state: 'behind', ahead: [A] });
    expect(events.filter(({ type }) => type === 'mirror-ahead')).toHaveLength(1);
  });

  test('refuses what must not replace a good copy, by name, and copies the rest', async () => {
    const store = copyAt();
    await put(authority, A, '{"type":"claude","disabled":true}');
    await put(authority, B, text('1'));
    const mirror = mirrorOf(store);
    await mirror.settle();
    expect(mirror.status).toMatchObject({ state: 'behind', refusals: [{ name: A, reason: expect.stringContaining('gutted') }] });
    expect(await held(store, B)).toBe(text('1'));
  });

  test('out of reach harms nothing, says so once, and catches up by itself', async () => {
    const store = new Unreliable(copyAt());
    const mirror = mirrorOf(store);
    await mirror.settle();
    store.isOut = true;
    store.asked = 0;
    await put(authority, A, text('1'));
    for (let n = 0; n < 100; n += 1) {
      mirror.look(A);
      await new Promise(setImmediate);
    }
    await until('the trouble is seen', () => mirror.status.state === 'in trouble');
    expect(store.asked).toBeLessThan(5);
    expect(mirror.status).toMatchObject({ waiting: 1, problem: { reason: 'it is out', remedy: 'Wait.' } });
    store.isOut = false;
    await until('it caught up', () => mirror.status.state === 'in step');
    expect(await held(store, A)).toBe(text('1'));
    expect(events.map(({ type }) => type)).toEqual(['mirror-trouble', 'mirror-back']);
  });

  test('compares everything once it is back, when it was out of reach for the comparison', async () => {
    const store = new Unreliable(copyAt());
    const mirror = mirrorOf(store);
    await mirror.settle();
    await put(authority, A, text('by another replica'));
    store.isOut = true;
    await mirror.settle();
    store.isOut = false;
    await until('it caught up', async () => (await held(store, A)) === text('by another replica'));
  });

  test('has no trouble when it is the authority that is out of reach', async () => {
    const from = new Unreliable(authority);
    const mirror = mirrorOf(copyAt(), { from });
    await mirror.settle();
    from.isOut = true;
    mirror.look(A);
    await mirror.settle();
    expect(mirror.status.problem).toBeUndefined();
    expect(events).toEqual([]);
    from.isOut = false;
    await put(authority, A, text('1'));
    await until('it follows again', () => mirror.status.state === 'in step' && mirror.status.waiting === 0);
  });

  test('that does not give back what was written says so', async () => {
    const store = new Unreliable(copyAt());
    const mirror = mirrorOf(store);
    store.forgets = true;
    await put(authority, A, text('1'));
    await mirror.settle();
    expect(mirror.status).toMatchObject({ state: 'behind', refusals: [{ name: A, reason: expect.stringContaining('did not give back') }] });
  });

  test('does not take a change for done that came while an older content was copied', async () => {
    const store = new Unreliable(copyAt());
    const mirror = mirrorOf(store);
    await mirror.settle();
    await put(authority, A, text('1'));
    let isFirst = true;
    store.beforeRead = async () => {
      if (!isFirst) return;
      isFirst = false;
      await put(authority, A, text('2'));
      mirror.look(A);
      await put(authority, A, text('3'));
      mirror.look(A);
    };
    mirror.look(A);
    await until('the last change is copied', async () => (await held(store, A)) === text('3'));
    await until('it is in step', () => mirror.status.state === 'in step');
  });

  test('keeps a deletion in mind that the mirror could not take', async () => {
    const store = new Unreliable(copyAt());
    for (const key of [A, B]) await put(authority, key, text(key));
    const mirror = mirrorOf(store);
    await mirror.settle();
    await put(authority, A, null);
    store.refusesDeletions = true;
    mirror.look(A);
    await until('it could not', () => mirror.status.state === 'in trouble');
    store.refusesDeletions = false;
    await until('it could', async () => (await held(store, A)) === 'deleted');
  });

  test('incident 20: does not copy a credential that lost its refresh token over a whole one, and gives it back', async () => {
    const store = copyAt();
    await put(authority, A, text('1'), [fingerprint('1')]);
    const mirror = mirrorOf(store);
    await mirror.settle();
    await put(authority, A, JSON.stringify({ type: 'claude', access_token: '1', note: 'kept' }), [fingerprint('1')]);
    await mirror.settle();
    const whole = { ...(JSON.parse(text('1')) as object), note: 'kept' };
    expect(JSON.parse((await held(authority, A)) ?? '')).toEqual(whole);
    expect(JSON.parse((await held(store, A)) ?? '')).toEqual(whole);
  });

  test('does not give back what another mirror knows to be deleted, or has newer', async () => {
    const [stale, fresh] = [copyAt('stale'), copyAt('fresh')];
    for (const store of [stale, fresh]) await store.open('create');
    const at = (hour: number): object => ({ expired: new Date(Date.UTC(2026, 0, 1, hour)).toISOString() });
    await put(stale, A, text('1'));
    await put(stale, B, text('old', at(1)));
    await put(fresh, A, text('1'));
    await put(fresh, A, null);
    await put(fresh, B, text('new', at(2)));
    const [one, two] = [mirrorOf(stale, { others: [fresh] }), mirrorOf(fresh, { others: [stale] })];
    await one.settle();
    await two.settle();
    await one.settle();
    expect(await held(authority, A)).toBeUndefined();
    expect(await held(authority, B)).toBe(text('new', at(2)));
    expect(await held(stale, B)).toBe(text('new', at(2)));
    expect(one.status.refusals).toMatchObject([{ name: A, reason: expect.stringContaining('deleted') }]);
  });

  test('of another cluster is refused, as is one with which replicas work, until it is adopted', async () => {
    const store = copyAt();
    await put(authority, A, text('1'));
    await mirrorOf(store).settle();
    const foreign = { id: 'another-cluster', key: cluster.key };
    const refused = mirrorOf(copyAt(), { cluster: foreign });
    await refused.settle();
    expect(refused.status.problem?.reason).toContain('belongs to another cluster');
    const adopted = mirrorOf(copyAt(), { cluster: foreign, adopt: true });
    await adopted.settle();
    expect(adopted.status.state).toBe('in step');
  });

  test('keeps a config whose deletion does not travel, and a document that is only too large for this replica', async () => {
    const config = 'config/config.yaml' as DocumentKey;
    const store = copyAt();
    await put(authority, config, 'api-keys:\n  - real\n');
    await put(authority, A, text('1'));
    const mirror = mirrorOf(store);
    await mirror.settle();
    await put(authority, config, null);
    const large = text('2', { note: 'x'.repeat(2 << 20) });
    await put(authority, A, large);
    await mirror.settle();
    expect(await held(store, config)).toBe('api-keys:\n  - real\n');
    expect(await held(authority, A)).toBe(large);
    expect(mirror.status.refusals).toMatchObject([{ name: A, reason: expect.stringContaining('bytes') }]);
  });

  test('that is the authority itself is refused', async () => {
    const mirror = mirrorOf(new FilesystemStore({ directory: join(directory, 'authority') }));
    await mirror.settle();
    expect(mirror.status.problem?.reason).toContain('the authority itself');
  });
});

/** A real store behind a bad network: it can be out of reach, or lose what it answered to have written. */
class Unreliable implements TokenStore {
  readonly #store: TokenStore;
  isOut = false;
  forgets = false;
  asked = 0;
  /** Called before each read, as if somebody else were at work. */
  beforeRead: () => Promise<void> = () => Promise.resolve();

  constructor(store: TokenStore) {
    this.#store = store;
  }

  get description(): string {
    return this.#store.description;
  }

  #through<T>(work: () => Promise<T>): Promise<T> {
    this.asked += 1;
    return this.isOut ? Promise.reject(new TokenmirrorError('STORE_UNREACHABLE', 'it is out', 'Wait.')) : work();
  }

  open(mode: 'create' | 'look') {
    return this.#through(() => this.#store.open(mode));
  }

  now() {
    return this.#through(() => this.#store.now());
  }

  list(...since: Parameters<TokenStore['list']>) {
    return this.#through(() => this.#store.list(...since));
  }

  async read(keys: Parameters<TokenStore['read']>[0]) {
    await this.beforeRead();
    return this.#through(() =>
      this.forgets && keys.some((key) => key.startsWith('auths/')) ? Promise.resolve(new Map()) : this.#store.read(keys),
    );
  }

  refusesDeletions = false;

  write(...change: Parameters<TokenStore['write']>) {
    if (this.refusesDeletions && change[0].some(({ content }) => content === null))
      return Promise.reject(new TokenmirrorError('STORE_UNREACHABLE', 'it is out', 'Wait.'));
    return this.#through(() => this.#store.write(...change));
  }

  close() {
    return this.#store.close();
  }
}
