import assert from 'node:assert/strict';
import { ClaimBook, claimKey, Hasher, type Clock, type Purpose, type TokenId } from '@tokenmirror/core';
import { onEmptyPlace, type Conformance, type TestFramework } from './harness.js';
import { credentialKey } from './samples.js';

const clock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => {
      clearTimeout(timer);
    };
  },
};

/** The races of claims on refresh tokens, which need nothing of a store but compare-and-set and a clock. */
export function claims(conformance: Conformance, { test }: TestFramework): void {
  const takers = conformance.writers ?? 20;
  const token: TokenId = new Hasher('conformance').tokenId('a refresh token');
  const purposeOf = (nonce: string): Purpose => ({ document: credentialKey('claude-a@example.com'), nonce });

  test(
    'of many takers of one token, each on its own connection, exactly one has it',
    onEmptyPlace(conformance, async ({ open }) => {
      const books: ClaimBook[] = [];
      for (let n = 0; n < takers; n += 1) books.push(new ClaimBook(await open(), `replica-${String(n)}`, clock));
      const taken = await Promise.all(books.map((book, n) => book.take(token, purposeOf(String(n)), n % 2 === 0)));
      const winner = taken.findIndex(({ status }) => status === 'taken');
      assert.deepEqual(
        taken.map(({ status }) => status),
        books.map((_, n) => (n === winner ? 'taken' : 'held')),
      );
      assert.equal((await books[0]?.read([token]))?.get(token)?.replica, `replica-${String(winner)}`);
    }),
  );

  test(
    'a lost reply is resolved by asking again: the claim is ours, and no second one is made',
    onEmptyPlace(conformance, async ({ open }) => {
      const store = await open();
      const book = new ClaimBook(store, 'replica-1', clock);
      assert.equal((await book.take(token, purposeOf('first'))).status, 'taken');
      const before = (await store.read([claimKey(token)])).get(claimKey(token))?.revision;
      assert.equal((await book.take(token, purposeOf('first'), true)).status, 'taken');
      assert.equal((await store.read([claimKey(token)])).get(claimKey(token))?.revision, before);
      assert.equal((await book.take(token, purposeOf('second'))).status, 'held');
    }),
  );

  test(
    'a claim is let go once: a second release removes nothing of the next holder',
    onEmptyPlace(conformance, async ({ open }) => {
      const [one, other] = [new ClaimBook(await open(), 'replica-1', clock), new ClaimBook(await open(), 'replica-2', clock)];
      await one.take(token, purposeOf('first'));
      assert.equal(await one.move(token, purposeOf('first'), 'free'), true);
      assert.equal((await other.take(token, purposeOf('second'))).status, 'taken');
      assert.equal(await one.move(token, purposeOf('first'), 'free'), false);
      assert.equal((await other.read([token])).get(token)?.state, 'open');
      assert.deepEqual([...(await one.held()).keys()], [token]);
    }),
  );

  test(
    'spent is for ever, whoever asks',
    onEmptyPlace(conformance, async ({ open }) => {
      const [one, other] = [new ClaimBook(await open(), 'replica-1', clock), new ClaimBook(await open(), 'replica-2', clock)];
      await one.take(token, purposeOf('first'));
      await one.spend(token, purposeOf('first'));
      for (const book of [one, other]) assert.equal((await book.take(token, purposeOf('again'), true)).status, 'spent');
      assert.equal(await one.move(token, purposeOf('first'), 'free'), false);
      const closed = (await one.read([token])).get(token);
      if (closed !== undefined) await one.free(token, closed);
      assert.equal((await other.read([token])).get(token)?.state, 'spent');
    }),
  );

  test(
    'a token that another replica may know is not closed under it',
    onEmptyPlace(conformance, async ({ open }) => {
      const [one, other] = [new ClaimBook(await open(), 'replica-1', clock), new ClaimBook(await open(), 'replica-2', clock)];
      await one.take(token, purposeOf('first'));
      await other.spend(token, purposeOf('other'));
      assert.equal((await one.read([token])).get(token)?.state, 'open');
    }),
  );

  test(
    'its clock is that of every connection',
    onEmptyPlace(conformance, async ({ open }) => {
      const [one, other] = [await open(), await open()];
      const times = [await one.now(), await other.now(), await one.now()];
      // HTTP tells whole seconds.
      for (const [n, at] of times.entries()) assert.ok(n === 0 || at >= (times[n - 1] ?? 0) - 1000, `it went back: ${times.join(', ')}`);
      assert.ok(Math.max(...times) - Math.min(...times) < 60_000, `its connections disagree: ${times.join(', ')}`);
    }),
  );
}
