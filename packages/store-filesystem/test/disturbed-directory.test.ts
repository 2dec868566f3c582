import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from '@jest/globals';
import type { Change, DocumentKey, Revision } from '@tokenmirror/core';
import { FilesystemStore } from '@tokenmirror/store-filesystem';
import { cleanTemporaryDirectories, temporaryDirectory, until } from '@tokenmirror/testkit';

afterAll(cleanTemporaryDirectories);

const KEY = 'auths/claude-a.json' as DocumentKey;
let directory: string;
let store: FilesystemStore;

beforeEach(async () => {
  directory = join(temporaryDirectory('disturbed'), 'store');
  store = await opened();
});

async function opened(): Promise<FilesystemStore> {
  const another = new FilesystemStore({ directory });
  await another.open('create');
  return another;
}

const text = (value: string): string => JSON.stringify({ type: 'claude', access_token: value });
const plain = (name: string): string => join(directory, name);

async function put(into: FilesystemStore, name: string, content: string): Promise<Revision> {
  const key = name as DocumentKey;
  const expected = (await into.read([key])).get(key)?.revision ?? 'absent';
  const change: Change = { key, expected, content, lineage: [] };
  const [outcome] = await into.write([change], 'me');
  if (outcome?.status !== 'written') throw new Error('not written');
  return outcome.revision;
}

/** Puts a copy of the directory in its place, as a backup program would. */
function restoreFrom(copy: string): void {
  renameSync(directory, `${copy}-replaced`);
  cpSync(copy, directory, { recursive: true, preserveTimestamps: true });
}

test('a directory restored to an earlier state is read anew, and its changes are all listed', async () => {
  await put(store, KEY, text('old'));
  const copy = `${directory}-copy`;
  cpSync(directory, copy, { recursive: true, preserveTimestamps: true });
  const newer = await put(store, KEY, text('new'));
  await put(store, 'auths/claude-b.json', text('b'));
  const { cursor } = await store.list();

  restoreFrom(copy);
  const listing = await store.list(cursor);
  expect(listing.complete).toBe(true);
  expect(listing.entries.map(({ name }) => name)).toEqual([KEY]);
  expect((await store.read([KEY])).get(KEY)).toMatchObject({ content: text('old') });
  const [refused] = await store.write([{ key: KEY, expected: newer, content: text('other'), lineage: [] }], 'me');
  expect(refused).toEqual({ status: 'refused' });
});

test('a number that was given out before the restore does not bring its revision back', async () => {
  await put(store, KEY, text('old'));
  const copy = `${directory}-copy`;
  cpSync(directory, copy, { recursive: true, preserveTimestamps: true });
  const before = await put(store, KEY, text('new'));
  const { cursor } = await store.list();

  restoreFrom(copy);
  const other = await opened();
  const after = await put(other, KEY, text('another branch'));
  expect(after).not.toBe(before);
  expect((await store.list(cursor)).complete).toBe(true);
  expect((await store.read([KEY])).get(KEY)).toMatchObject({ content: text('another branch'), revision: after });
});

test('another store in the place of this one is an outage, until the right one is back', async () => {
  await put(store, KEY, text('a'));
  renameSync(directory, `${directory}-away`);
  await put(await opened(), KEY, text('b'));
  await expect(store.list()).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
  rmSync(directory, { recursive: true });
  renameSync(`${directory}-away`, directory);
  expect((await store.read([KEY])).get(KEY)).toMatchObject({ content: text('a') });
});

test('a plain copy that cannot be written stops nothing, and is made good later', async () => {
  mkdirSync(plain('auths/claude-a.json'), { recursive: true });
  writeFileSync(plain('auths/team'), 'a file where a directory must be');
  await put(store, KEY, text('a'));
  await put(store, 'auths/team/claude-b.json', text('b'));
  await put(store, 'auths/claude-c.json', text('c'));
  expect((await store.list()).entries).toHaveLength(3);
  expect((await store.read([KEY])).get(KEY)).toMatchObject({ content: text('a') });
  expect(readFileSync(plain('auths/claude-c.json'), 'utf8')).toBe(text('c'));

  rmSync(plain('auths/claude-a.json'), { recursive: true });
  rmSync(plain('auths/team'));
  await store.list();
  expect(readFileSync(plain('auths/claude-a.json'), 'utf8')).toBe(text('a'));
  expect(readFileSync(plain('auths/team/claude-b.json'), 'utf8')).toBe(text('b'));
});

test('a file that somebody is writing counts only when it was left alone', async () => {
  const name = 'config/config.yaml' as DocumentKey;
  const [before, after] = ['debug: true\napi-keys:\n  - sk-real\n', 'debug: false\napi-keys:\n  - sk-real\n'];
  await put(store, name, before);
  writeFileSync(plain(name), 'debug: false\n');
  setTimeout(() => {
    writeFileSync(plain(name), after);
  }, 500);
  await until('the finished edit is in the store', async () => {
    await store.list();
    const entry = (await store.read([name])).get(name);
    return entry?.state === 'live' && entry.content === after;
  });
  const versions = await store.history.versions(name);
  expect(await Promise.all(versions.map(({ id }) => store.history.content(name, id)))).toEqual([before]);
});

test('what a crash left of temporary files is removed everywhere in the store', async () => {
  await put(store, KEY, text('a'));
  const leftovers = ['auths', 'config', '.tokenmirror', '.tokenmirror/log'].map((place) => {
    mkdirSync(plain(place), { recursive: true });
    const path = plain(`${place}/.tokenmirror-0123456789abcdef.tmp`);
    writeFileSync(path, text('secret'));
    utimesSync(path, 1, 1);
    return path;
  });
  await opened();
  expect(leftovers.filter((path) => existsSync(path))).toEqual([]);
  expect(statSync(plain(KEY)).isFile()).toBe(true);
});

test('data of a newer format is refused each time it is looked at, not only once', async () => {
  await put(store, KEY, text('1'));
  const path = plain('.tokenmirror/cluster.json');
  const stored = JSON.parse(readFileSync(path, 'utf8')) as object;
  writeFileSync(path, JSON.stringify({ ...stored, format: 9, oldestReader: 9 }));
  for (let look = 0; look < 3; look += 1) await expect(store.list()).rejects.toMatchObject({ code: 'FORMAT_NEWER' });
  const change: Change = { key: KEY, expected: 'absent', content: text('2'), lineage: [] };
  await expect(store.write([change], 'me')).rejects.toMatchObject({ code: 'FORMAT_NEWER' });
});

test('an edit that nobody has looked at yet is not overwritten, and counts', async () => {
  await put(store, KEY, text('1'));
  await store.list();
  writeFileSync(plain(KEY), text('by a person'));
  await put(store, KEY, text('2'));
  expect(readFileSync(plain(KEY), 'utf8')).toBe(text('by a person'));
  await store.list();
  expect((await store.read([KEY])).get(KEY)).toMatchObject({ content: text('by a person') });
  const versions = await store.history.versions(KEY);
  expect(await store.history.content(KEY, versions[0]?.id ?? '')).toBe(text('2'));
});

test('a directory restored to a time before its checkpoint is read anew by a process that knows it from the checkpoint only', async () => {
  await put(store, KEY, text('old'));
  const copy = `${directory}-copy`;
  cpSync(directory, copy, { recursive: true, preserveTimestamps: true });
  for (let n = 0; n < 255; n += 1) await put(store, 'auths/claude-b.json', text(String(n)));
  const other = await opened();
  const { cursor } = await other.list();
  restoreFrom(copy);
  const listing = await other.list(cursor);
  expect(listing.complete).toBe(true);
  expect(listing.entries.map(({ name }) => name)).toEqual([KEY]);
  await put(other, KEY, text('new'));
  expect((await (await opened()).read([KEY])).get(KEY)).toMatchObject({ content: text('new') });
});

test('a log that has lost its checkpoint is read from its beginning', async () => {
  for (let n = 0; n < 260; n += 1) await put(store, KEY, text(String(n)));
  rmSync(plain('.tokenmirror/checkpoint.json'));
  const fresh = await opened();
  expect((await fresh.read([KEY])).get(KEY)).toMatchObject({ content: text('259') });
});

test('a directory on a disk that is not mounted is not made there', async () => {
  const away = join(directory, 'not-mounted', 'store');
  await expect(new FilesystemStore({ directory: away }).open('create')).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
  expect(existsSync(join(directory, 'not-mounted'))).toBe(false);
});
