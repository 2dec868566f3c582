import assert from 'node:assert/strict';
import type { Fingerprint } from '@tokenmirror/core';
import { onEmptyPlace, type Conformance, type TestFramework } from './harness.js';
import { AUTHOR, change, count, credentialKey, credentialText, put, sameJson } from './samples.js';

export function compareAndSet(conformance: Conformance, { test }: TestFramework): void {
  const key = credentialKey('claude-a@example.com');
  const writers = conformance.writers ?? 20;

  test(
    'a create needs absence: the second one is refused and changes nothing',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      await put(store, key, 'absent', credentialText('1'));
      const [second] = await store.write([change(key, 'absent', credentialText('2'))], AUTHOR);
      assert.equal(second?.status, 'refused');
      const entry = (await store.read([key])).get(key);
      assert.equal(entry?.state, 'live');
      sameJson(entry.content, credentialText('1'));
    }),
  );

  test(
    'an update needs the last revision, and gives a new one',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      const first = await put(store, key, 'absent', credentialText('1'));
      const second = await put(store, key, first, credentialText('2'));
      assert.notEqual(second, first);
      const [stale] = await store.write([change(key, first, credentialText('3'))], AUTHOR);
      assert.equal(stale?.status, 'refused');
      assert.equal((await store.read([key])).get(key)?.revision, second);
    }),
  );

  test(
    'writing the same content again still gives a new revision',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      const first = await put(store, key, 'absent', credentialText('1'));
      assert.notEqual(await put(store, key, first, credentialText('1')), first);
    }),
  );

  test(
    'a deletion leaves a tombstone, on which alone the key can be made again',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      const first = await put(store, key, 'absent', credentialText('1'));
      const tombstone = await put(store, key, first, null);
      assert.equal((await store.read([key])).get(key)?.state, 'deleted');
      const [blind] = await store.write([change(key, 'absent', credentialText('2'))], AUTHOR);
      assert.equal(blind?.status, 'refused');
      await put(store, key, tombstone, credentialText('2'));
      assert.equal((await store.read([key])).get(key)?.state, 'live');
    }),
  );

  test(
    `of ${String(writers)} processes that create one key, exactly one is told so`,
    onEmptyPlace(conformance, async ({ open }) => {
      const stores = await Promise.all(Array.from({ length: writers }, () => open()));
      const outcomes = await Promise.all(stores.map((store, n) => store.write([change(key, 'absent', credentialText(String(n)))], AUTHOR)));
      assert.equal(count(outcomes.flat(), 'written'), 1);
      assert.equal(count(outcomes.flat(), 'refused'), writers - 1);
      const winner = outcomes.findIndex(([outcome]) => outcome?.status === 'written');
      const entry = (await stores[0]?.read([key]))?.get(key);
      assert.equal(entry?.state, 'live');
      sameJson(entry.content, credentialText(String(winner)));
    }),
  );

  test(
    `of ${String(writers)} processes that update from one revision, exactly one is told so`,
    onEmptyPlace(conformance, async ({ open }) => {
      const stores = await Promise.all(Array.from({ length: writers }, () => open()));
      const first = await put(stores[0] ?? (await open()), key, 'absent', credentialText('0'));
      const outcomes = await Promise.all(stores.map((store, n) => store.write([change(key, first, credentialText(String(n)))], AUTHOR)));
      assert.equal(count(outcomes.flat(), 'written'), 1);
    }),
  );

  test(
    'each change of a batch succeeds or is refused for itself, in order',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      const keys = [1, 2, 3].map((n) => credentialKey(`codex-${String(n)}`));
      const [one, two, three] = keys as [typeof key, typeof key, typeof key];
      await put(store, two, 'absent', credentialText('old'));
      const outcomes = await store.write(
        [one, two, three].map((each) => change(each, 'absent', credentialText('new'))),
        AUTHOR,
      );
      assert.deepEqual(
        outcomes.map(({ status }) => status),
        ['written', 'refused', 'written'],
      );
    }),
  );

  test(
    'of two changes of one key in a batch the second is refused',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      const outcomes = await store.write([change(key, 'absent', credentialText('1')), change(key, 'absent', credentialText('2'))], AUTHOR);
      assert.deepEqual(
        outcomes.map(({ status }) => status),
        ['written', 'refused'],
      );
    }),
  );

  test(
    'changes that are written together are written all or not at all',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      const [one, two] = [credentialKey('codex-1'), credentialKey('codex-2')];
      const first = await put(store, key, 'absent', credentialText('1'));
      const stale = [
        change(one, 'absent', credentialText('1')),
        change(key, 'absent', credentialText('2')),
        change(two, 'absent', credentialText('3')),
      ];
      const refused = await store.write(stale, AUTHOR, 'together');
      assert.equal(count(refused, 'refused'), 3);
      assert.deepEqual(
        [...(await (await open()).read([one, key, two]))].map(([found, { revision }]) => [found, revision]),
        [[key, first]],
      );
      const whole = [
        change(one, 'absent', credentialText('1')),
        change(key, first, credentialText('2')),
        change(two, 'absent', credentialText('3')),
      ];
      const written = await store.write(whole, AUTHOR, 'together');
      assert.equal(count(written, 'written'), 3);
      const entries = await (await open()).read([one, key, two]);
      assert.deepEqual(
        written.map((outcome) => (outcome.status === 'written' ? outcome.revision : undefined)),
        [one, key, two].map((each) => entries.get(each)?.revision),
      );
    }),
  );

  test(
    `of ${String(writers)} processes that write a key of their own together with one of all, exactly one has both`,
    onEmptyPlace(conformance, async ({ open }) => {
      const stores = await Promise.all(Array.from({ length: writers }, () => open()));
      const own = stores.map((_, n) => credentialKey(`codex-${String(n)}`));
      const outcomes = await Promise.all(
        stores.map((store, n) =>
          store.write(
            [change(own[n] ?? key, 'absent', credentialText(String(n))), change(key, 'absent', credentialText(String(n)))],
            AUTHOR,
            'together',
          ),
        ),
      );
      const winner = outcomes.findIndex((outcome) => count(outcome, 'written') === 2);
      assert.equal(count(outcomes.flat(), 'written'), 2);
      assert.deepEqual([...((await stores[0]?.read([...own, key]))?.keys() ?? [])].sort(), [own[winner] ?? '', key].sort());
    }),
  );

  test(
    'the lineage is kept beside the document, through its deletion',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      const lineage = ['fingerprint-A', 'fingerprint-B'] as Fingerprint[];
      const [written] = await store.write([{ key, expected: 'absent', content: credentialText('1'), lineage }], AUTHOR);
      assert.equal(written?.status, 'written');
      assert.deepEqual((await store.read([key])).get(key)?.lineage, lineage);
      await store.write([{ key, expected: written.revision, content: null, lineage }], AUTHOR);
      assert.deepEqual((await (await open()).read([key])).get(key)?.lineage, lineage);
    }),
  );
}
