import { chmodSync, existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { type Change, type DocumentKey, type Revision } from '@tokenmirror/core';
import { GitStore, type GitStoreOptions } from '@tokenmirror/store-git';
import {
  cleanTemporaryDirectories,
  FaultProxy,
  git,
  GIT_TOKEN,
  GIT_USER,
  GitClone,
  GitServer,
  temporaryDirectory,
  type Fault,
} from '@tokenmirror/testkit';

const KEY = 'auths/claude-a@example.com.json' as DocumentKey;
const OTHER = 'auths/claude-b@example.com.json' as DocumentKey;

let server: GitServer;
let path: string;
let url: string;
let clones: string;
let stores: GitStore[];
let count = 0;

beforeAll(async () => {
  server = await GitServer.create();
});

beforeEach(() => {
  count += 1;
  path = server.path(`repository-${String(count)}`);
  url = server.url(`repository-${String(count)}`);
  clones = temporaryDirectory('clones');
  stores = [];
});

afterEach(async () => {
  for (const store of stores) await store.close();
});

afterAll(async () => {
  await server.stop();
  cleanTemporaryDirectories();
});

const text = (value: string): string => JSON.stringify({ type: 'claude', access_token: value });
const log = (): string => git(['log', '--format=%an <%ae> %s', 'main'], path);
const files = (): string[] => git(['ls-tree', '-r', '--name-only', 'main'], path).split('\n').filter(Boolean);

function made(more: Partial<GitStoreOptions> = {}): GitStore {
  const store = new GitStore({ url, username: GIT_USER, token: GIT_TOKEN, cloneDirectory: clones, timeoutMs: 2000, ...more });
  stores.push(store);
  return store;
}

async function opened(more: Partial<GitStoreOptions> = {}): Promise<GitStore> {
  const store = made(more);
  await store.open('create');
  return store;
}

async function put(store: GitStore, key: DocumentKey, content: string | null): Promise<Revision> {
  const expected = (await store.read([key])).get(key)?.revision ?? 'absent';
  const change: Change = { key, expected, content, lineage: [] };
  const [outcome] = await store.write([change], 'me');
  if (outcome?.status !== 'written') throw new Error(`not written: ${JSON.stringify(outcome)}`);
  return outcome.revision;
}

const content = async (store: GitStore, key: DocumentKey): Promise<string | undefined> => {
  const entry = (await store.read([key])).get(key);
  return entry?.state === 'live' ? entry.content : undefined;
};

/** What CLIProxyAPI's own git store does: one commit without ancestors, pushed by force. */
function rewrite(change: (clone: GitClone) => void): void {
  const clone = new GitClone(path);
  change(clone);
  git(['checkout', '--quiet', '--orphan', 'fresh'], clone.directory);
  git(['add', '--all', '--force'], clone.directory);
  git(['commit', '--quiet', '--allow-empty', '--message', 'rewritten'], clone.directory);
  git(['push', '--quiet', '--force', 'origin', 'fresh:main'], clone.directory);
}

describe('a branch that others push to', () => {
  test('that was rewritten to one commit with the same files is the same store', async () => {
    const store = await opened();
    const revision = await put(store, KEY, text('1'));
    const { cursor } = await store.list();
    rewrite(() => undefined);
    expect((await store.list(cursor)).entries).toEqual([]);
    expect((await store.read([KEY])).get(KEY)?.revision).toBe(revision);
    await put(store, KEY, text('2'));
    expect(git(['rev-list', '--count', 'main'], path).trim()).toBe('2');
  });

  test('that was rewritten without some credentials shows them deleted, and keeps their contents', async () => {
    const store = await opened();
    await put(store, KEY, text('1'));
    await put(store, OTHER, text('other'));
    rewrite(({ directory }) => {
      rmSync(join(directory, KEY));
    });
    expect((await store.list()).entries).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ name: KEY, state: 'deleted' }),
        expect.objectContaining({ name: OTHER, state: 'live' }),
      ]),
    );
    const [version] = await store.history.versions(KEY);
    expect(version).toMatchObject({ reason: 'deleted', author: undefined });
    expect(await store.history.content(KEY, version?.id ?? '')).toBe(text('1'));
  });

  test('incident 6: that was wiped by a forced push is an outage, and nothing is concluded', async () => {
    const store = await opened();
    await put(store, KEY, text('1'));
    const { cursor } = await store.list();
    const before = git(['rev-parse', 'main'], path).trim();
    rewrite(({ directory }) => {
      for (const name of readdirSync(directory)) if (name !== '.git') rmSync(join(directory, name), { recursive: true });
    });
    await expect(store.list(cursor)).rejects.toMatchObject({ code: 'STORE_UNREACHABLE', message: expect.stringContaining('cluster id') });
    await expect(store.read([KEY])).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
    git(['update-ref', 'refs/heads/main', before], path);
    expect(await content(store, KEY)).toBe(text('1'));
  });

  test('that went back to an earlier commit goes on from there', async () => {
    const store = await opened();
    await put(store, KEY, text('1'));
    const earlier = git(['rev-parse', 'main'], path).trim();
    const late = await put(store, KEY, text('2'));
    await put(store, OTHER, text('other'));
    const { cursor } = await store.list();
    git(['update-ref', 'refs/heads/main', earlier], path);
    const { entries } = await store.list(cursor);
    expect(entries).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ name: KEY, state: 'live' }),
        expect.objectContaining({ name: OTHER, state: 'absent' }),
      ]),
    );
    expect(await store.write([{ key: KEY, expected: late, content: text('3'), lineage: [] }], 'me')).toEqual([{ status: 'refused' }]);
    expect(await content(store, KEY)).toBe(text('1'));
  });

  test('keeps what they committed in between: a push that comes late is planned again', async () => {
    const store = await opened();
    await put(store, KEY, text('1'));
    new GitClone(path).commit({ 'README.md': 'by a person', [OTHER]: text('by a person') });
    await put(store, KEY, text('2'));
    expect(files()).toEqual(expect.arrayContaining(['README.md', KEY, OTHER]));
    expect(await content(store, OTHER)).toBe(text('by a person'));
  });

  test('of five replicas that push at once, every change arrives, and no commit is lost', async () => {
    const replicas = await Promise.all(Array.from({ length: 5 }, () => opened()));
    await Promise.all(
      replicas.map(async (store, n) => {
        for (let turn = 0; turn < 4; turn += 1)
          await put(store, `auths/replica-${String(n)}.json` as DocumentKey, text(`${String(n)}-${String(turn)}`));
      }),
    );
    const reader = await opened();
    for (let n = 0; n < 5; n += 1)
      expect(await content(reader, `auths/replica-${String(n)}.json` as DocumentKey)).toBe(text(`${String(n)}-3`));
    expect(Number(git(['rev-list', '--count', 'main'], path))).toBe(21);
  });
});

describe('a repository', () => {
  test('that CLIProxyAPI made is adopted, and stays what it can start from', async () => {
    new GitClone(path).commit({
      [KEY]: text('by CLIProxyAPI'),
      'auths/.gitkeep': '',
      'config/.gitkeep': '',
      'config/config.yaml': 'port: 8317\n',
    });
    const store = await opened();
    await store.list();
    expect(await content(store, KEY)).toBe(text('by CLIProxyAPI'));
    await put(store, KEY, text('ours'));
    const clone = new GitClone(path);
    expect(readFileSync(join(clone.directory, KEY), 'utf8')).toBe(text('ours'));
    expect(existsSync(join(clone.directory, 'config/.gitkeep'))).toBe(true);
  });

  test('incident 14: that ignores a document refuses it by name', async () => {
    new GitClone(path).commit({ '.gitignore': 'auths/claude-*\n', 'auths/.gitignore': 'codex-*\n' });
    const store = await opened();
    const keys = [KEY, 'auths/codex-a.json', 'auths/kimi-a.json'] as DocumentKey[];
    const outcomes = await store.write(
      keys.map((key) => ({ key, expected: 'absent', content: text('1'), lineage: [] })),
      'me',
    );
    expect(outcomes).toMatchObject([
      { status: 'unacceptable', reason: expect.stringContaining('.gitignore') },
      { status: 'unacceptable' },
      { status: 'written' },
    ]);
  });

  test('is told which credential changed and how, by the author that was set, and never a value', async () => {
    const store = await opened({ author: { name: 'A Mirror', email: 'mirror@example.com' } });
    await put(store, KEY, text('secret-1'));
    await put(store, KEY, text('secret-2'));
    await put(store, KEY, null);
    expect(log().trim().split('\n')).toEqual([
      `A Mirror <mirror@example.com> Delete ${KEY}`,
      `A Mirror <mirror@example.com> Update ${KEY}`,
      `A Mirror <mirror@example.com> Add ${KEY}`,
      'A Mirror <mirror@example.com> Prepare the repository for Tokenmirror',
    ]);
  });

  test('keeps its documents on the branch that is named, made where it is new', async () => {
    new GitClone(path).commit({ 'README.md': 'a website' });
    const store = await opened({ branch: 'credentials' });
    await put(store, KEY, text('1'));
    expect(files()).toEqual(['README.md']);
    expect(git(['show', `credentials:${KEY}`], path)).toBe(text('1'));
  });

  test('on this machine with a working tree: files follow, but not where a person has changed them', async () => {
    const plain = temporaryDirectory('plain');
    git(['init', '--quiet', '--initial-branch=main', plain], '/');
    const store = await opened({ url: plain });
    await put(store, KEY, text('1'));
    await put(store, OTHER, text('other'));
    expect(readFileSync(join(plain, KEY), 'utf8')).toBe(text('1'));
    expect(statSync(join(plain, KEY)).mode & 0o777).toBe(0o600);
    expect(git(['status', '--porcelain'], plain)).toBe('');

    writeFileSync(join(plain, KEY), text('by a person'));
    await put(store, KEY, text('2'));
    expect(readFileSync(join(plain, KEY), 'utf8')).toBe(text('by a person'));
    git(['checkout', '--', KEY], plain);
    await put(store, OTHER, null);
    expect(readFileSync(join(plain, KEY), 'utf8')).toBe(text('2'));
    expect(existsSync(join(plain, OTHER))).toBe(false);
    expect(git(['status', '--porcelain'], plain)).toBe('');
    expect(git(['fsck', '--strict'], plain)).toBe('');

    git(['checkout', '--quiet', '-b', 'feature'], plain);
    await put(store, KEY, text('3'));
    expect(git(['status', '--porcelain'], plain)).toBe('');
    expect(readFileSync(join(plain, KEY), 'utf8')).toBe(text('2'));
    git(['checkout', '--quiet', '--force', 'main'], plain);
    writeFileSync(join(plain, 'notes.md'), 'staged by a person');
    git(['add', 'notes.md'], plain);
    await put(store, KEY, text('4'));
    expect(readFileSync(join(plain, KEY), 'utf8')).toBe(text('4'));
    expect(git(['status', '--porcelain'], plain)).toBe('A  notes.md\n');
  });

  test('of another format, or checked out in a second working tree, is refused and left as it is', async () => {
    const other = temporaryDirectory('sha256');
    git(['init', '--quiet', '--object-format=sha256', '--initial-branch=main', other], '/');
    await expect(made({ url: other }).open('create')).rejects.toMatchObject({ code: 'STORE_UNSUITABLE' });
    const plain = temporaryDirectory('plain');
    git(['init', '--quiet', '--initial-branch=main', plain], '/');
    await put(await opened({ url: plain }), KEY, text('1'));
    git(['branch', 'other'], plain);
    git(['worktree', 'add', '--quiet', join(temporaryDirectory('linked'), 'tree'), 'other'], plain);
    await expect(made({ url: plain, branch: 'other' }).open('create')).rejects.toMatchObject({ code: 'STORE_UNSUITABLE' });
    writeFileSync(join(plain, '.git/refs/heads/main'), '');
    await expect(made({ url: plain, branch: 'main' }).open('create')).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
    expect(readFileSync(join(plain, '.git/refs/heads/main'), 'utf8')).toBe('');
    await expect(made({ url: '/nonexistent/repository' }).open('create')).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
  });

  test('refuses a document that would take the place of another one, which stays', async () => {
    const store = await opened();
    const inside = 'auths/a.json/b.json' as DocumentKey;
    await put(store, 'auths/a.json' as DocumentKey, text('1'));
    const outcome = await store.write([{ key: inside, expected: 'absent', content: text('2'), lineage: [] }], 'me');
    expect(outcome).toMatchObject([{ status: 'unacceptable' }]);
    expect(await content(store, 'auths/a.json' as DocumentKey)).toBe(text('1'));
  });

  test('whose files of ours are damaged says so each time, without quoting them, and loses nothing else', async () => {
    const store = await opened();
    await put(store, KEY, text('1'));
    await put(store, OTHER, text('2'));
    const clone = new GitClone(path);
    const [entry = ''] = files().filter((name) => name.startsWith('.tokenmirror/entries/'));
    clone.commit({ [entry]: '<<<<<<< conflict' });
    const fresh = await opened();
    expect((await fresh.list()).entries.filter(({ name }) => name.startsWith('auths/'))).toHaveLength(2);

    const identity = git(['show', 'main:.tokenmirror/cluster.json'], path);
    const { key } = JSON.parse(identity) as { key: string };
    clone.commit({ '.tokenmirror/cluster.json': identity.replace('"key":"', '"key":') });
    for (let look = 0; look < 2; look += 1) {
      const error = await store.list().catch((caught: unknown) => caught);
      expect(error).toMatchObject({ code: 'FORMAT_DAMAGED' });
      expect(String(error)).not.toContain(key.slice(0, 6));
      await expect(store.write([{ key: KEY, expected: 'absent', content: text('x'), lineage: [] }], 'me')).rejects.toMatchObject({
        code: 'FORMAT_DAMAGED',
      });
    }
  });
});

describe('the clone', () => {
  test('is private, holds no token, and is not shared by two processes', async () => {
    const [one, two] = [await opened(), await opened()];
    await put(one, KEY, text('1'));
    await put(two, OTHER, text('2'));
    const [own] = readdirSync(clones);
    const directory = join(clones, own ?? '');
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    expect(readdirSync(directory).sort()).toEqual(['0', '1']);
    expect(readFileSync(join(directory, '0/repository.git/config'), 'utf8')).not.toContain(GIT_TOKEN);
  });

  test('that is damaged is made anew', async () => {
    const store = await opened();
    await put(store, KEY, text('1'));
    const directory = join(clones, readdirSync(clones)[0] ?? '', '0/repository.git/objects');
    for (const name of readdirSync(directory)) rmSync(join(directory, name), { recursive: true });
    await expect(store.read([KEY])).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
    expect(await content(store, KEY)).toBe(text('1'));
  });
});

describe('trouble', () => {
  test.each<[string, Partial<GitStoreOptions>, RegExp]>([
    ['a wrong token', { token: 'another-token' }, /token was refused/],
    ['a repository that is not there', { url: 'http://example.invalid/' }, /no such repository/],
  ])('%s is named, without the token', async (_, wrong, message) => {
    const error = await made(wrong.url === undefined ? wrong : { url: server.url('no-such-repository') })
      .open('create')
      .catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'STORE_DENIED', message: expect.stringMatching(message) });
    expect(String(error) + JSON.stringify(error)).not.toMatch(/another-token|git-token-of-the-tests/);
  });

  test('a token in the URL works, and is not shown', async () => {
    const store = await opened({ url: url.replace('http://', `http://${GIT_USER}:${GIT_TOKEN}@`), username: undefined, token: undefined });
    await put(store, KEY, text('1'));
    expect(store.description).not.toContain(GIT_TOKEN);
  });

  test('a server that refuses pushes says so once, and is not asked for ever', async () => {
    const store = await opened();
    const hook = join(path, 'hooks', 'pre-receive');
    writeFileSync(hook, '#!/bin/sh\nexit 1\n');
    chmodSync(hook, 0o755);
    await expect(put(store, KEY, text('1'))).rejects.toMatchObject({ code: 'STORE_DENIED', message: expect.stringContaining('hook') });
    rmSync(hook);
    await put(store, KEY, text('1'));
  });

  test.each<[string, Fault]>([
    ['silent', 'hang'],
    ['broken', { status: 500 }],
    ['cut off', 'reset'],
  ])('a server that is %s is an outage, which passes', async (_, fault) => {
    const proxy = await FaultProxy.before(url);
    try {
      const store = await opened({ url: proxy.url });
      await put(store, KEY, text('1'));
      proxy.fault = () => fault;
      await expect(store.list()).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
      proxy.fault = () => undefined;
      expect(await content(store, KEY)).toBe(text('1'));
    } finally {
      await proxy.close();
    }
  });

  test('a push whose answer was lost is seen by the next look, and not done twice', async () => {
    const proxy = await FaultProxy.before(url);
    try {
      const store = await opened({ url: proxy.url });
      proxy.fault = ({ method, path: at }) => (method === 'POST' && at.endsWith('git-receive-pack') ? 'lose-answer' : undefined);
      await expect(put(store, KEY, text('1'))).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
      proxy.fault = () => undefined;
      expect(await content(store, KEY)).toBe(text('1'));
      await put(store, KEY, text('2'));
      expect(log().trim().split('\n')).toHaveLength(3);
    } finally {
      await proxy.close();
    }
  });

  test('an idle look is one request', async () => {
    const store = await opened();
    const { cursor } = await store.list();
    server.requests.length = 0;
    await store.list(cursor);
    expect(server.requests).toHaveLength(1);
  });
});
