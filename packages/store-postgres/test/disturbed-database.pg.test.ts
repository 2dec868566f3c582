import { afterEach, beforeEach, expect, test } from '@jest/globals';
import pg from 'pg';
import type { Change, DocumentKey } from '@tokenmirror/core';
import { PostgresStore } from '@tokenmirror/store-postgres';
import { createSchema, until, type TestSchema } from '@tokenmirror/testkit';

let schema: TestSchema;
let store: PostgresStore;

beforeEach(async () => {
  schema = await createSchema();
  store = new PostgresStore({ dsn: schema.dsn, schema: schema.schema });
  await store.open('create');
});

afterEach(async () => {
  await store.close();
  await schema.destroy();
});

const key = (name: string): DocumentKey => `auths/${name}.json` as DocumentKey;
const text = (token: string): string => JSON.stringify({ type: 'claude', access_token: token });
const creation = (name: string): Change => ({ key: key(name), expected: 'absent', content: text(name), lineage: [] });

test('a connection that the server ends in the middle of a write fails that write, and nothing else', async () => {
  const blocker = new pg.Client(schema.dsn);
  await blocker.connect();
  await blocker.query(`SELECT pg_advisory_lock(hashtextextended('tokenmirror ${schema.schema}', 0))`);
  const writing = store.write([creation('a')], 'me');
  const outcome = expect(writing).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
  await until('the write was cut off', async () => {
    const ended = await schema.query<{ pid: number }>(
      `SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'advisory' AND query LIKE '%${schema.schema}%'`,
    );
    return ended.length > 0;
  });
  await outcome;
  await blocker.end();
  expect(await store.write([creation('a')], 'me')).toMatchObject([{ status: 'written' }]);
});

test('a row that a constraint of the operator refuses does not hold up the others', async () => {
  await schema.query(`ALTER TABLE auth_store ADD CONSTRAINT no_b CHECK (id <> 'b.json')`);
  expect(await store.write(['a', 'b', 'c'].map(creation), 'me')).toMatchObject([
    { status: 'written' },
    { status: 'unacceptable', reason: 'Postgres refuses it (SQLSTATE 23514)' },
    { status: 'written' },
  ]);
});

test('a row that no trigger saw is not written over, and is seen from then on', async () => {
  await schema.query('ALTER TABLE auth_store DISABLE TRIGGER USER');
  await schema.query(`INSERT INTO auth_store (id, content) VALUES ('a.json', '${text('foreign')}')`);
  await schema.query('ALTER TABLE auth_store ENABLE TRIGGER USER');
  expect(await store.write([creation('a')], 'me')).toEqual([{ status: 'refused' }]);
  const entry = (await store.read([key('a')])).get(key('a'));
  expect(entry?.state === 'live' && JSON.parse(entry.content)).toEqual({ type: 'claude', access_token: 'foreign' });
  expect((await store.list()).entries.map(({ name }) => name)).toContain(key('a'));
});

test('a watch that cannot be begun leaves no connection behind', async () => {
  await store.close();
  await expect(store.watch(() => undefined)).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
  await until('nobody listens', async () => {
    const listening = await schema.query(`SELECT FROM pg_stat_activity WHERE query LIKE 'LISTEN%${schema.schema}%'`);
    return listening.length === 0;
  });
});
