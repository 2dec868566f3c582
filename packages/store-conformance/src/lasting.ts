import assert from 'node:assert/strict';
import { TokenmirrorError, type ErrorCode } from '@tokenmirror/core';
import { onEmptyPlace, type Conformance, type TestFramework } from './harness.js';
import { AUTHOR, change, credentialKey, credentialText, eventually, put, sameJson } from './samples.js';

export function lasting(conformance: Conformance, { test }: TestFramework): void {
  const key = credentialKey('claude-a@example.com');
  const fails =
    (code: ErrorCode) =>
    (error: unknown): boolean =>
      error instanceof TokenmirrorError && error.code === code;

  test(
    'the cluster keeps its id and key, and another place has others',
    onEmptyPlace(conformance, async ({ place, open }) => {
      await open();
      const [one, two] = [await place.connect().open('create'), await place.connect().open('look')];
      assert.deepEqual(one, two);
      assert.ok((one?.key.length ?? 0) >= 32);
      const other = await conformance.create();
      try {
        const store = other.connect();
        assert.notEqual((await store.open('create'))?.id, one?.id);
        await store.close();
      } finally {
        await other.destroy();
      }
    }),
  );

  test(
    'many processes that open a new place at once agree on one cluster',
    onEmptyPlace(conformance, async ({ place }) => {
      const stores = Array.from({ length: 5 }, () => place.connect());
      const identities = await Promise.all(stores.map((store) => store.open('create')));
      assert.equal(new Set(identities.map((identity) => identity?.id)).size, 1);
      for (const store of stores) await store.close();
    }),
  );

  test(
    'looking at a new place changes nothing',
    onEmptyPlace(conformance, async ({ place }) => {
      const looker = place.connect();
      assert.equal(await looker.open('look'), undefined);
      assert.deepEqual((await looker.list()).entries, []);
      await looker.close();
      const again = place.connect();
      assert.equal(await again.open('look'), undefined);
      await again.close();
    }),
  );

  test(
    'documents and tombstones are there after a restart',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      const gone = credentialKey('gone');
      const revision = await put(store, key, 'absent', credentialText('1'));
      await put(store, gone, await put(store, gone, 'absent', credentialText('2')), null);
      await store.close();
      const found = await (await open()).read([key, gone]);
      assert.equal(found.get(key)?.revision, revision);
      assert.equal(found.get(gone)?.state, 'deleted');
    }),
  );

  test(
    'replaced, deleted and archived versions are kept, newest first, and no more than the limit',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      if (store.history === undefined) return;
      let revision = await put(store, key, 'absent', credentialText('0'));
      revision = await put(store, key, revision, credentialText('1'));
      await store.history.archive(key, credentialText('loser'), 'lost a merge: note', AUTHOR);
      await store.history.archive(key, credentialText('loser'), 'lost a merge: note', AUTHOR);
      await put(store, key, revision, null);
      const versions = await store.history.versions(key);
      assert.deepEqual(
        versions.map(({ reason }) => reason),
        ['deleted', 'lost a merge: note', 'replaced'],
      );
      const { history } = store;
      const contents = await Promise.all(versions.map(({ id }) => history.content(key, id)));
      [credentialText('1'), credentialText('loser'), credentialText('0')].forEach((text, n) => {
        sameJson(contents[n], text);
      });
      let tombstone = (await store.read([key])).get(key)?.revision;
      for (let n = 0; n < 25 && tombstone !== undefined; n += 1)
        tombstone = await put(store, key, tombstone, credentialText(`more-${String(n)}`));
      assert.equal((await store.history.versions(key)).length, 20);
      assert.equal(await store.history.content(key, 'no such version'), undefined);
    }),
  );

  test(
    'a newer format that still can be read is used, one that cannot is refused by name',
    onEmptyPlace(conformance, async ({ place, open }) => {
      await put(await open(), key, 'absent', credentialText('1'));
      await place.setFormat(2, 1);
      const adjacent = await open();
      assert.equal((await adjacent.read([key])).size, 1);
      await place.setFormat(3, 2);
      const store = place.connect();
      await assert.rejects(store.open('create'), fails('FORMAT_NEWER'));
      await store.close();
    }),
  );

  test(
    'a store that lost its cluster id is an outage, not an empty store',
    onEmptyPlace(conformance, async ({ place, open }) => {
      if (place.loseIdentity === undefined) return;
      const store = await open();
      await put(store, key, 'absent', credentialText('1'));
      const { cursor } = await store.list();
      await place.loseIdentity();
      await assert.rejects(store.list(cursor), fails('STORE_UNREACHABLE'));
      await assert.rejects(store.list(), fails('STORE_UNREACHABLE'));
      await assert.rejects(store.read([key]), fails('STORE_UNREACHABLE'));
    }),
  );

  test(
    'writes of others are taken as they are, with a new revision',
    onEmptyPlace(conformance, async ({ place, open }) => {
      const foreign = place.foreign;
      if (foreign === undefined) return;
      const store = await open();
      const revision = await put(store, key, 'absent', credentialText('1'));
      await store.list();
      await foreign.write(key, credentialText('2'));
      await foreign.write('auths/new.json', credentialText('3'));
      const entry = await foundAfter(
        store,
        () => store.read([key]).then((found) => found.get(key)),
        (found) => found?.revision !== revision,
      );
      assert.equal(entry?.state, 'live');
      sameJson(entry.content, credentialText('2'));
      assert.equal((await store.read([credentialKey('new')])).size, 1);
      const [stale] = await store.write([change(key, revision, credentialText('4'))], AUTHOR);
      assert.equal(stale?.status, 'refused');
    }),
  );

  test(
    'a removal by others shows what the store can know of it',
    onEmptyPlace(conformance, async ({ place, open }) => {
      const foreign = place.foreign;
      if (foreign === undefined) return;
      const store = await open();
      await put(store, key, 'absent', credentialText('1'));
      await store.list();
      await foreign.remove(key);
      await store.list();
      const entry = (await store.read([key])).get(key);
      const expected = { deleted: 'deleted', absent: undefined, 'put back': 'live' }[foreign.removalShows];
      assert.equal(entry?.state, expected);
    }),
  );
}

/** Lists until the store noticed what others did. */
async function foundAfter<T>(store: { list(): Promise<unknown> }, read: () => Promise<T>, isNew: (found: T) => boolean): Promise<T> {
  let found = await read();
  await eventually('the foreign write', async () => {
    await store.list();
    found = await read();
    return isNew(found);
  });
  return found;
}
