import { appendFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import type { Base, DocumentKey, Hash, Revision } from '@tokenmirror/core';
import { BaseJournal } from '@tokenmirror/workspace';
import { cleanTemporaryDirectories, temporaryDirectory } from '@tokenmirror/testkit';

afterAll(cleanTemporaryDirectories);

const OWNER = { cluster: 'cluster-1', store: 'file:///store', replica: 'replica-1' };

function base(n: number, revision = 'r'): Base {
  const digest = { hash: `hash-${String(n)}` as Hash, fields: {} };
  return {
    key: `auths/c-${String(n)}.json` as DocumentKey,
    local: digest,
    remote: { state: 'live', revision: revision as Revision, digest },
  };
}

test('records are there after a restart, private, and a deleted one is not', async () => {
  const directory = temporaryDirectory('base');
  const journal = await BaseJournal.open(directory, OWNER);
  await Promise.all([1, 2, 3].map((n) => journal.set(base(n))));
  await journal.delete(base(2).key);
  await journal.close();
  expect(statSync(join(directory, 'base.jsonl')).mode & 0o777).toBe(0o600);
  const again = await BaseJournal.open(directory, OWNER);
  expect([...again.keys()]).toEqual([base(1).key, base(3).key]);
  expect(again.get(base(3).key)).toEqual(base(3));
});

test('a line that a crash tore is dropped, and the rest is kept', async () => {
  const directory = temporaryDirectory('base');
  const journal = await BaseJournal.open(directory, OWNER);
  await journal.set(base(1));
  await journal.close();
  appendFileSync(join(directory, 'base.jsonl'), '{"set":{"key":"auths/c-2');
  const again = await BaseJournal.open(directory, OWNER);
  expect([...again.keys()]).toEqual([base(1).key]);
  await again.set(base(3));
  await again.close();
  expect([...(await BaseJournal.open(directory, OWNER)).keys()]).toEqual([base(1).key, base(3).key]);
});

test('another cluster or another store means no base', async () => {
  const directory = temporaryDirectory('base');
  const journal = await BaseJournal.open(directory, OWNER);
  await journal.set(base(1));
  await journal.close();
  expect([...(await BaseJournal.open(directory, { ...OWNER, store: 'other' })).keys()]).toEqual([]);
});

test('a newer format is refused, not overwritten', async () => {
  const directory = temporaryDirectory('base');
  const newer = `${JSON.stringify({ format: 9, oldestReader: 8, ...OWNER })}\n`;
  writeFileSync(join(directory, 'base.jsonl'), newer);
  await expect(BaseJournal.open(directory, OWNER)).rejects.toMatchObject({ code: 'FORMAT_NEWER' });
  expect(readFileSync(join(directory, 'base.jsonl'), 'utf8')).toBe(newer);
});

test('a change costs one line, however many records there are, and the file does not grow without end', async () => {
  const directory = temporaryDirectory('base');
  const path = join(directory, 'base.jsonl');
  const journal = await BaseJournal.open(directory, OWNER);
  await Promise.all(Array.from({ length: 1000 }, (_, n) => journal.set(base(n))));
  const before = statSync(path).size;
  await journal.set(base(1, 'changed'));
  expect(statSync(path).size - before).toBeLessThan(300);
  for (let round = 0; round < 10; round += 1)
    await Promise.all(Array.from({ length: 1000 }, (_, n) => journal.set(base(n, String(round)))));
  await journal.close();
  expect(statSync(path).size).toBeLessThan(before * 5);
  expect((await BaseJournal.open(directory, OWNER)).get(base(5).key)?.remote?.revision).toBe('9');
});
