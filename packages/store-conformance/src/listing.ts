import assert from 'node:assert/strict';
import { CONFIG_KEY, recordKey } from '@tokenmirror/core';
import { onEmptyPlace, type Conformance, type TestFramework } from './harness.js';
import { AUTHOR, change, credentialKey, credentialText, eventually, put } from './samples.js';

export function listing(conformance: Conformance, { test }: TestFramework): void {
  const key = credentialKey('claude-a@example.com');

  test(
    'everything written is listed and read by another process',
    onEmptyPlace(conformance, async ({ open }) => {
      const [writer, reader] = [await open(), await open()];
      const keys = Array.from({ length: 300 }, (_, n) => credentialKey(`many-${String(n)}`));
      const outcomes = await writer.write(
        keys.map((each) => change(each, 'absent', credentialText(each))),
        AUTHOR,
      );
      assert.ok(outcomes.every(({ status }) => status === 'written'));
      const { entries, complete } = await reader.list();
      assert.ok(complete);
      assert.deepEqual(entries.map(({ name }) => name).sort(), [...keys].sort());
      assert.equal((await reader.read(keys)).size, keys.length);
    }),
  );

  test(
    'a cursor gives what changed after it, deletions included, and nothing else',
    onEmptyPlace(conformance, async ({ open }) => {
      const [writer, reader] = [await open(), await open()];
      const other = credentialKey('claude-b@example.com');
      const first = await put(writer, key, 'absent', credentialText('1'));
      await put(writer, other, 'absent', credentialText('2'));
      const { cursor } = await reader.list();
      assert.deepEqual((await reader.list(cursor)).entries, []);
      const tombstone = await put(writer, key, first, null);
      const changed = await reader.list(cursor);
      assert.deepEqual(changed.entries, [{ name: key, state: 'deleted', revision: tombstone }]);
      assert.equal(changed.complete, false);
      assert.deepEqual((await reader.list(changed.cursor)).entries, []);
    }),
  );

  test(
    'no change is skipped by a cursor while many write',
    onEmptyPlace(conformance, async ({ open }) => {
      const reader = await open();
      const stores = await Promise.all(Array.from({ length: 5 }, () => open()));
      let { cursor } = await reader.list();
      const seen = new Set<string>();
      const look = async (): Promise<void> => {
        const listed = await reader.list(cursor);
        cursor = listed.cursor;
        for (const { name } of listed.entries) seen.add(name);
      };
      const writing = { goesOn: true };
      const reading = (async () => {
        while (writing.goesOn) await look();
      })();
      await Promise.all(
        stores.map(async (store, w) => {
          for (let n = 0; n < 20; n += 1) await put(store, credentialKey(`w${String(w)}-${String(n)}`), 'absent', credentialText('x'));
        }),
      );
      writing.goesOn = false;
      await reading;
      await look();
      assert.equal(seen.size, 100);
    }),
  );

  test(
    'an empty store lists nothing, and reading nothing is an empty answer',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      assert.deepEqual((await store.list()).entries, []);
      assert.equal((await store.read([])).size, 0);
      assert.equal((await store.read([key])).size, 0);
      assert.deepEqual(await store.write([], AUTHOR), []);
    }),
  );

  test(
    'records of ours are kept, changed and listed like documents',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      const record = recordKey('replicas', 'replica-1');
      const [made] = await store.write([{ key: record, expected: 'absent', content: '{"a":1}', lineage: [] }], AUTHOR);
      assert.equal(made?.status, 'written');
      const [again] = await store.write([{ key: record, expected: 'absent', content: '{"a":2}', lineage: [] }], AUTHOR);
      assert.equal(again?.status, 'refused');
      const [changed] = await store.write([{ key: record, expected: made.revision, content: '{"a":2}', lineage: [] }], AUTHOR);
      assert.equal(changed?.status, 'written');
      const entry = (await store.read([record])).get(record);
      assert.equal(entry?.state === 'live' ? entry.content : undefined, '{"a":2}');
      assert.ok((await store.list()).entries.some(({ name }) => name === record));
      const [removed] = await store.write([{ key: record, expected: changed.revision, content: null, lineage: [] }], AUTHOR);
      assert.equal(removed?.status, 'written');
      assert.equal((await store.read([record])).get(record)?.state, 'deleted');
    }),
  );

  test(
    'the config keeps its text to the letter',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      const text = '# a comment\nport: 8317\n\napi-keys:\n  - "k1" # mine\n';
      await put(store, CONFIG_KEY, 'absent', text);
      const entry = (await store.read([CONFIG_KEY])).get(CONFIG_KEY);
      assert.equal(entry?.state === 'live' ? entry.content : undefined, text);
    }),
  );

  test(
    'names and contents beyond ASCII come back as they were',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      const odd = credentialKey("team a/gemini-ünïcode 'quoted' %20 — 日本");
      const text = credentialText('x', { note: 'line\nbreak "quotes" \u{1F511} \\ backslash' });
      await put(store, odd, 'absent', text);
      const entry = (await store.read([odd])).get(odd);
      assert.deepEqual(JSON.parse(entry?.state === 'live' ? entry.content : ''), JSON.parse(text));
    }),
  );

  test(
    'a watcher is told of changes that others make',
    onEmptyPlace(conformance, async ({ open }) => {
      const [writer, reader] = [await open(), await open()];
      if (reader.watch === undefined) return;
      let hints = 0;
      const stop = await reader.watch(() => {
        hints += 1;
      });
      const before = hints;
      await put(writer, key, 'absent', credentialText('1'));
      await eventually('a hint', () => Promise.resolve(hints > before));
      await stop();
    }),
  );
}
