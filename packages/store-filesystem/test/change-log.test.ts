import { readdirSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from '@jest/globals';
import type { Change, DocumentKey, Revision } from '@tokenmirror/core';
import { FilesystemStore } from '@tokenmirror/store-filesystem';
import { cleanTemporaryDirectories, temporaryDirectory } from '@tokenmirror/testkit';

afterAll(cleanTemporaryDirectories);

const KEY = 'auths/claude-a.json' as DocumentKey;
const OTHER = 'auths/claude-b.json' as DocumentKey;
let directory: string;

beforeEach(() => {
  directory = temporaryDirectory('log');
});

const text = (n: number): string => JSON.stringify({ type: 'claude', access_token: `token-${String(n)}` });
const logFiles = (): string[] => readdirSync(join(directory, '.tokenmirror', 'log'));

async function opened(): Promise<FilesystemStore> {
  const store = new FilesystemStore({ directory });
  await store.open('create');
  return store;
}

async function rewrite(store: FilesystemStore, key: DocumentKey, times: number, from = 0): Promise<void> {
  let expected: Revision | 'absent' = (await store.read([key])).get(key)?.revision ?? 'absent';
  for (let n = from; n < from + times; n += 1) {
    const change: Change = { key, expected, content: text(n), lineage: [] };
    const [outcome] = await store.write([change], 'me');
    if (outcome?.status !== 'written') throw new Error('not written');
    expected = outcome.revision;
  }
}

test('a long log starts from its checkpoint, with everything it had', async () => {
  const store = await opened();
  await rewrite(store, OTHER, 1);
  await rewrite(store, KEY, 600);
  expect(statSync(join(directory, '.tokenmirror', 'checkpoint.json')).mode & 0o777).toBe(0o600);
  const again = await opened();
  expect((await again.read([KEY])).get(KEY)).toMatchObject({ state: 'live', content: text(599) });
  expect((await again.read([OTHER])).get(OTHER)).toMatchObject({ state: 'live', content: text(0) });
  expect((await again.history.versions(KEY)).length).toBe(20);
});

test('old files that nothing refers to are removed, young ones and those of the history are not', async () => {
  const store = await opened();
  await rewrite(store, OTHER, 1);
  await rewrite(store, KEY, 300);
  expect(logFiles()).toHaveLength(301);
  for (const name of logFiles()) utimesSync(join(directory, '.tokenmirror', 'log', name), 1, 1);
  await rewrite(store, KEY, 300, 300);
  expect(logFiles().length).toBeLessThan(400);
  const again = await opened();
  expect((await again.read([OTHER])).get(OTHER)).toMatchObject({ state: 'live', content: text(0) });
  const versions = await again.history.versions(KEY);
  expect(await again.history.content(KEY, versions.at(-1)?.id ?? '')).toBe(text(579));
});

test('a process that lags far behind a checkpoint catches up before it writes', async () => {
  const [slow, fast] = [await opened(), await opened()];
  await rewrite(slow, KEY, 1);
  const [before] = [(await slow.read([KEY])).get(KEY)];
  await rewrite(fast, KEY, 600, 1);
  for (const name of logFiles()) utimesSync(join(directory, '.tokenmirror', 'log', name), 1, 1);
  await rewrite(fast, KEY, 300, 601);
  const [outcome] = await slow.write([{ key: KEY, expected: before?.revision ?? 'absent', content: text(9999), lineage: [] }], 'slow');
  expect(outcome).toEqual({ status: 'refused' });
  expect((await slow.read([KEY])).get(KEY)).toMatchObject({ content: text(900) });
});
