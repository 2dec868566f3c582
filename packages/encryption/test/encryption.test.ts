import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readDocument, UNREADABLE, type DocumentKey, type TokenStore } from '@tokenmirror/core';
import { describeConformance } from '@tokenmirror/store-conformance';
import { FilesystemStore } from '@tokenmirror/store-filesystem';
import { cleanTemporaryDirectories, temporaryDirectory } from '@tokenmirror/testkit';
import { parse } from 'yaml';
import { EncryptedStore, generateKey, Keyring, parseKeys, readEnvelope, seal, unseal } from '../src/index.js';

const KEY = 'auths/claude-me@example.com.json' as DocumentKey;
const CONFIG = 'config/config.yaml' as DocumentKey;
const SECRET = 'sk-ant-ort01-a-secret-for-tests';
const CONTENT = JSON.stringify({ type: 'claude', refresh_token: SECRET });
const [first, second] = [generateKey('first'), generateKey('second')];

afterAll(cleanTemporaryDirectories);

describeConformance(
  {
    name: 'a filesystem store that is encrypted',
    create: () => {
      const directory = temporaryDirectory('encrypted');
      const identity = join(directory, '.tokenmirror', 'cluster.json');
      return Promise.resolve({
        connect: () => new EncryptedStore(new FilesystemStore({ directory }), parseKeys(first, 'a test')),
        loseIdentity: () => rm(identity),
        setFormat: (format, oldestReader) => {
          const stored = JSON.parse(readFileSync(identity, 'utf8')) as object;
          writeFileSync(identity, JSON.stringify({ ...stored, format, oldestReader }));
          return Promise.resolve();
        },
        destroy: () => rm(directory, { recursive: true, force: true }),
      });
    },
  },
  { describe, test },
);

async function opened(directory: string, keys: string): Promise<EncryptedStore> {
  const store = new EncryptedStore(new FilesystemStore({ directory }), parseKeys(keys, 'a test'));
  await store.open('create');
  return store;
}

async function put(store: TokenStore, key: DocumentKey, content: string): Promise<void> {
  const before = (await store.read([key])).get(key);
  const [outcome] = await store.write([{ key, expected: before?.revision ?? 'absent', content, lineage: [] }], 'test');
  expect(outcome?.status).toBe('written');
}

async function contentOf(store: TokenStore, key: DocumentKey): Promise<string | undefined> {
  const entry = (await store.read([key])).get(key);
  return entry?.state === 'live' ? entry.content : undefined;
}

describe('an encrypted store', () => {
  test('holds nothing that can be read, neither now nor in its history', async () => {
    const directory = temporaryDirectory('encrypted');
    const store = await opened(directory, first);
    await put(store, KEY, CONTENT);
    await put(store, KEY, JSON.stringify({ type: 'claude', refresh_token: 'another' }));
    await put(store, CONFIG, `api-keys:\n  - ${SECRET}\n`);
    await store.history?.archive(KEY, CONTENT, 'lost a merge', 'test');
    expect(everythingIn(directory)).not.toContain(SECRET);
    const versions = (await store.history?.versions(KEY)) ?? [];
    const contents = await Promise.all(versions.map(async ({ id }) => store.history?.content(KEY, id)));
    expect(contents).toContain(CONTENT);
    await store.close();
  });

  test('is read with a second key during a rotation, and says under which key each document stands', async () => {
    const directory = temporaryDirectory('encrypted');
    const before = await opened(directory, first);
    await put(before, KEY, CONTENT);
    await before.close();
    const during = await opened(directory, `${second},${first}`);
    expect(await contentOf(during, KEY)).toBe(CONTENT);
    expect((await during.encryptedUnder([KEY])).get(KEY)).toMatch(/^first~[0-9a-f]{8}$/);
    await put(during, KEY, CONTENT);
    expect((await during.encryptedUnder([KEY])).get(KEY)).toMatch(/^second~[0-9a-f]{8}$/);
    await during.close();
    const after = await opened(directory, second);
    expect(await contentOf(after, KEY)).toBe(CONTENT);
    await after.close();
  });

  test('goes on when an old key was taken away, without the versions that stand under it', async () => {
    const directory = temporaryDirectory('encrypted');
    const before = await opened(directory, first);
    await put(before, KEY, CONTENT);
    await before.history?.archive(KEY, CONTENT, 'lost a merge', 'test');
    await before.close();
    const rotating = await opened(directory, `${second},${first}`);
    await put(rotating, KEY, CONTENT);
    await rotating.close();
    const after = await opened(directory, second);
    await after.history?.archive(KEY, CONTENT, 'lost a merge', 'test');
    const versions = (await after.history?.versions(KEY)) ?? [];
    const contents = await Promise.all(versions.map(async ({ id }) => after.history?.content(KEY, id)));
    expect(contents).toContain(CONTENT);
    expect(contents).toContain(undefined);
    await after.close();
  });

  test('with `none` in front decrypts and does not encrypt, while other replicas get the key', async () => {
    const directory = temporaryDirectory('encrypted');
    const store = await opened(directory, `none,${first}`);
    await put(store, KEY, CONTENT);
    expect((await store.encryptedUnder([KEY])).get(KEY)).toBeUndefined();
    await store.close();
    const next = await opened(directory, first);
    await put(next, KEY, CONTENT);
    await next.close();
    const other = await opened(directory, `none,${first}`);
    expect(await contentOf(other, KEY)).toBe(CONTENT);
    await other.close();
  });

  test('of a newer format is refused, not overwritten', async () => {
    const directory = temporaryDirectory('encrypted');
    const raw = new FilesystemStore({ directory });
    await raw.open('create');
    await put(raw, KEY, JSON.stringify({ tokenmirror_encrypted: { version: 2, key: 'x', data: '' } }));
    await raw.close();
    const store = await opened(directory, first);
    await expect(store.read([KEY])).rejects.toMatchObject({ code: 'ENCRYPTION_KEY' });
    await store.close();
  });

  test('is refused with a clear error where the key is missing, another one of that name, or there is none', async () => {
    const directory = temporaryDirectory('encrypted');
    const store = await opened(directory, first);
    await put(store, KEY, CONTENT);
    await store.close();
    for (const keys of [second, generateKey('first'), '']) {
      const other = await opened(directory, keys);
      await expect(other.read([KEY])).rejects.toMatchObject({ code: 'ENCRYPTION_KEY' });
      await other.close();
    }
  });

  test('reads a document that was changed or moved as one that cannot be used, and the others as ever', async () => {
    const directory = temporaryDirectory('encrypted');
    const store = await opened(directory, first);
    const other = 'auths/other.json' as DocumentKey;
    await put(store, KEY, CONTENT);
    await put(store, other, CONTENT);
    const raw = new FilesystemStore({ directory });
    await raw.open('create');
    const moved = await contentOf(raw, other);
    await put(raw, KEY, moved ?? '');
    expect(await contentOf(store, KEY)).toBe(UNREADABLE);
    expect(readDocument(KEY, UNREADABLE)).toMatchObject({ state: 'refused', malformed: false });
    expect(readDocument(CONFIG, UNREADABLE)).toMatchObject({ state: 'refused', malformed: false });
    expect(await contentOf(store, other)).toBe(CONTENT);
    for (const each of [store, raw]) await each.close();
  });

  test('reads what was written in plain text, by CLIProxyAPI or before', async () => {
    const directory = temporaryDirectory('encrypted');
    const plain = await opened(directory, '');
    await put(plain, KEY, CONTENT);
    await plain.close();
    const store = await opened(directory, first);
    expect(await contentOf(store, KEY)).toBe(CONTENT);
    expect((await store.encryptedUnder([KEY])).get(KEY)).toBeUndefined();
    await store.close();
  });
});

describe('an envelope', () => {
  const [key] = [parseKeys(first, 'a test').current];
  if (key === undefined) throw new Error('no key');

  test('incident 35: gives back any text, and only to the document, cluster and key that it was made for', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.constantFrom(KEY, CONFIG), (text, document) => {
        const envelope = readEnvelope(seal(text, key, { cluster: 'c', key: document }));
        if (envelope === undefined) throw new Error('no envelope');
        expect(unseal(envelope, key, { cluster: 'c', key: document })).toBe(text);
        expect(unseal(envelope, key, { cluster: 'd', key: document })).toBeUndefined();
        expect(unseal(envelope, key, { cluster: 'c', key: 'auths/other.json' as DocumentKey })).toBeUndefined();
        expect(unseal(envelope, { ...key, id: 'other' }, { cluster: 'c', key: document })).toBeUndefined();
      }),
    );
  });

  test('that was changed anywhere is not opened', () => {
    const envelope = readEnvelope(seal(CONTENT, key, { cluster: 'c', key: KEY }));
    if (envelope === undefined) throw new Error('no envelope');
    for (let at = 0; at < envelope.data.length; at += 7) {
      const data = Buffer.from(envelope.data);
      data[at] = (data[at] ?? 0) ^ 1;
      expect(unseal({ ...envelope, data }, key, { cluster: 'c', key: KEY })).toBeUndefined();
    }
  });

  test('in the place of the config is no YAML, for CLIProxyAPI would take one without api-keys for an open door', () => {
    expect(() => {
      parse(seal('api-keys: []\n', key, { cluster: 'c', key: CONFIG }), { strict: true });
    }).toThrow();
  });

  test('is told from any other text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        expect(readEnvelope(text)).toBeUndefined();
      }),
    );
  });
});

test('keys that cannot be used are refused without being shown', () => {
  for (const bad of ['nonsense', 'k:c2hvcnQ=', `${first},${first}`, `:${first}`]) {
    expect(() => parseKeys(bad, 'encryption-keys')).toThrow(/encryption-keys/);
    try {
      parseKeys(bad, 'encryption-keys');
    } catch (error) {
      expect(String(error)).not.toContain(first.split(':')[1]);
    }
  }
  expect(new Keyring([]).current).toBeUndefined();
  expect(parseKeys(`# of today\n${first}\n\n${second}\n`, 'a file').ids).toEqual([
    expect.stringMatching(/^first~/),
    expect.stringMatching(/^second~/),
  ]);
});

function everythingIn(directory: string): string {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'utf8'))
    .join('\n');
}
