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

function mirrorOf(store: TokenStore, more: { readonly force?: boolean; readonly clock?: Clock; readonly from?: TokenStore } = {}): Mirror {
  const mirror = new Mirror(
    {
      name: 'copy',
      store,
      authority: more.from ?? authority,
      cluster,
      replicaId: 'replica-1',
      clock: more.clock ?? systemClock,
      random: Math.random,
      emit: (event) => events.push(event),
    },
    { maxDocumentBytes: 1 << 20, intervalMs: 3_600_000, force: more.force ?? false },
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
    await put(authority, A, text('1'));
    mirror.look(A);
    await until('the trouble is seen', () => mirror.status.state === 'in trouble');
    expect(mirror.status).toMatchObject({ waiting: 1, problem: { reason: 'it is out', remedy: 'Wait.' } });
    store.isOut = false;
    await until('it caught up', () => mirror.status.state === 'in step');
    expect(await held(store, A)).toBe(text('1'));
    expect(events.map(({ type }) => type)).toEqual(['mirror-trouble', 'mirror-back']);
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

  test('that does not give back what was written is in trouble', async () => {
    const store = new Unreliable(copyAt());
    const mirror = mirrorOf(store);
    store.forgets = true;
    await put(authority, A, text('1'));
    await mirror.settle();
    expect(mirror.status).toMatchObject({ state: 'in trouble', problem: { reason: expect.stringContaining('did not give back') } });
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

  constructor(store: TokenStore) {
    this.#store = store;
  }

  get description(): string {
    return this.#store.description;
  }

  #through<T>(work: () => Promise<T>): Promise<T> {
    return this.isOut ? Promise.reject(new TokenmirrorError('STORE_UNREACHABLE', 'it is out', 'Wait.')) : work();
  }

  open(mode: 'create' | 'look') {
    return this.#through(() => this.#store.open(mode));
  }

  list(...since: Parameters<TokenStore['list']>) {
    return this.#through(() => this.#store.list(...since));
  }

  read(keys: Parameters<TokenStore['read']>[0]) {
    return this.#through(() => (this.forgets ? Promise.resolve(new Map()) : this.#store.read(keys)));
  }

  write(...change: Parameters<TokenStore['write']>) {
    return this.#through(() => this.#store.write(...change));
  }

  close() {
    return this.#store.close();
  }
}
