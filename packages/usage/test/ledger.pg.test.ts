import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Clock } from '@tokenmirror/core';
import { Database, type DatabasePlace } from '@tokenmirror/database';
import { KEY_SCHEMA, KeyRegistry, parseQuota, type KeyTables } from '@tokenmirror/key-expiry';
import { FilesystemStore } from '@tokenmirror/store-filesystem';
import { cleanTemporaryDirectories, createSchema, temporaryDirectory } from '@tokenmirror/testkit';
import {
  decodeBackup,
  encodeBackup,
  exportLedger,
  Ledger,
  Questions,
  readBackups,
  readLedgerExport,
  readPrices,
  readRecord,
  readSnapshot,
  readUsageFile,
  snapshotOf,
  USAGE_SCHEMA,
  UsageBackup,
  type UsageEvent,
  type UsageTables,
} from '../src/index.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const NOW = Date.parse('2026-03-10T10:30:00Z');

let now: number;
const clock: Clock = { now: () => now, monotonic: () => now, after: () => () => undefined };

const places = {
  embedded: (): Promise<{ place: DatabasePlace; destroy: () => Promise<void> }> =>
    Promise.resolve({
      place: { kind: 'embedded', file: join(temporaryDirectory('ledger'), 'companions.db') },
      destroy: () => Promise.resolve(),
    }),
  postgres: async (): Promise<{ place: DatabasePlace; destroy: () => Promise<void> }> => {
    const created = await createSchema();
    const url = new URL(created.dsn);
    const config = {
      host: url.hostname,
      port: Number(url.port),
      user: url.username,
      password: url.password,
      database: url.pathname.slice(1),
    };
    return { place: { kind: 'postgres', config, schema: created.schema, description: 'postgres' }, destroy: () => created.destroy() };
  },
} as const;

let sequence = 0;
function event(more: Partial<UsageEvent> = {}): UsageEvent {
  sequence += 1;
  const at = more.at ?? now;
  return {
    id: `event-${String(sequence)}`,
    timestamp: new Date(at).toISOString(),
    at,
    apiKey: 'sk-client-of-the-ledger-1',
    account: 'claude@example.com',
    authIndex: '0',
    model: 'claude-sonnet',
    provider: 'claude',
    endpoint: 'POST /v1/messages',
    failed: false,
    latencyMs: 12,
    tokens: { input: 100, output: 20, reasoning: 0, cached: 40, cacheCreation: 0, total: 120 },
    ...more,
  };
}

afterAll(cleanTemporaryDirectories);

describe.each(['embedded', 'postgres'] as const)('a ledger in %s', (kind) => {
  let place: DatabasePlace;
  let destroy: () => Promise<void>;
  let registry: KeyRegistry;
  let ledger: Ledger;
  let questions: Questions;

  beforeEach(async () => {
    now = NOW;
    ({ place, destroy } = await places[kind]());
    registry = await KeyRegistry.open({ database: await Database.open<KeyTables>(place, KEY_SCHEMA), clock, secrets: [] });
    const database = await Database.open<UsageTables>(place, USAGE_SCHEMA);
    ledger = new Ledger({ database, registry, clock, keepEventsMs: 35 * DAY, keepHoursMs: 366 * DAY });
    const prices = readPrices('prices:\n  - {model: claude-*, input: 3, output: 15, cached: 0.3}\n', 'a test');
    questions = new Questions({ ledger, registry, clock, prices });
  });

  afterEach(async () => {
    await registry.close();
    await ledger.database.close();
    await destroy();
  });

  test('takes every event once, however often it comes, and its sums agree', async () => {
    const events = [event(), event({ failed: true }), event({ model: 'gpt-5.4', provider: 'codex' })];
    expect((await ledger.take('here', events)).added).toBe(3);
    expect((await ledger.take('here', [...events, ...events])).added).toBe(0);
    expect(await questions.total(0)).toMatchObject({ requests: 3, failed: 1, total: 360, cached: 120 });
    expect(await questions.top('model', 0)).toMatchObject([
      { name: 'claude-sonnet', requests: 2 },
      { name: 'gpt-5.4', requests: 1 },
    ]);
  });

  test('two daemons that take the same at once count it once', async () => {
    const events = Array.from({ length: 100 }, () => event());
    const other = new Ledger({ database: ledger.database, registry, clock, keepEventsMs: DAY, keepHoursMs: DAY });
    const taken = await Promise.all([ledger.take('one', events), other.take('two', [...events].reverse())]);
    expect(taken.reduce((sum, { added }) => sum + added, 0)).toBe(100);
    expect((await questions.total(0)).requests).toBe(100);
  });

  test('answers exactly for any instant, out of days, hours and single events', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 10 * 24 * 60 }), { minLength: 1, maxLength: 30 }),
        fc.integer({ min: 0, max: 10 * 24 * 60 }),
        async (minutes, back) => {
          const origin = `run ${String((sequence += 1))}`;
          const events = minutes.map((minute) => event({ at: NOW - minute * 60_000, apiKey: `sk-${origin}` }));
          await ledger.take(origin, events);
          const since = NOW - back * 60_000;
          const expected = events.filter(({ at }) => at >= since).length;
          expect((await questions.key(`sk-${origin}`, since)).requests).toBe(expected);
        },
      ),
      { numRuns: 25 },
    );
  });

  test('joins the keys of the registry, and shows masks of the others', async () => {
    const { key, record } = await registry.add('test', {
      owner: 'me@example.com',
      term: { kind: 'never' },
      quota: parseQuota('3 requests per day'),
    });
    const taken = await ledger.take('here', [
      event({ apiKey: key }),
      event({ apiKey: key }),
      event({ apiKey: key }),
      event({ apiKey: 'sk-somebody-elses-key-000000' }),
    ]);
    expect(taken.crossings).toMatchObject([{ part: 1, record: { id: record.id } }]);
    expect(await questions.top('key', 0)).toMatchObject([
      { name: record.mask, keyId: record.id, owner: 'me@example.com', requests: 3 },
      { name: 'sk-som…0000', requests: 1 },
    ]);
    expect(await questions.top('owner', 0)).toMatchObject([
      { name: 'me@example.com', requests: 3 },
      { name: 'nobody', requests: 1 },
    ]);
    expect(await questions.top('account', 0)).toMatchObject([{ name: 'c***@example.com', requests: 4 }]);
    expect(await questions.key(record.id, 0)).toMatchObject({ keyId: record.id, requests: 3 });
    expect(await questions.account('ME@example.com', 0)).toMatchObject({ name: 'me@example.com', requests: 3 });
    expect((await registry.list({ filter: 'exhausted' })).total).toBe(1);
    await ledger.take('here', [event({ apiKey: key, id: 'again' })]);
    expect((await registry.get(record.id)).used.requests).toBe(4);
  });

  test('estimates what it cost, by the price of what was cached and what was not', async () => {
    await ledger.take('here', [event()]);
    expect((await questions.total(0)).cost).toBeCloseTo((60 * 3 + 20 * 15 + 40 * 0.3) / 1e6, 10);
    await ledger.take('here', [event({ model: 'unknown-model', apiKey: 'sk-without-a-price-1234' })]);
    expect((await questions.key('sk-without-a-price-1234', 0)).cost).toBeUndefined();
  });

  test('tells what was used hour by hour, and day by day', async () => {
    await ledger.take('here', [event({ at: NOW - 2 * HOUR }), event(), event({ at: NOW - DAY })]);
    expect(
      (await questions.timeline(NOW - 3 * HOUR, 'hour')).map(({ start, requests }) => [new Date(start).toISOString(), requests]),
    ).toEqual([
      ['2026-03-10T08:00:00.000Z', 1],
      ['2026-03-10T10:00:00.000Z', 1],
    ]);
    expect((await questions.timeline(NOW - 2 * DAY, 'day')).map(({ requests }) => requests)).toEqual([1, 2]);
  });

  test('forgets single events and hours in time, and never days', async () => {
    await ledger.take('here', [event({ at: NOW - 40 * DAY }), event({ at: NOW - 400 * DAY }), event()]);
    await ledger.tidy();
    expect((await ledger.ids('here', 0)).size).toBe(1);
    expect(await questions.timeline(0, 'hour')).toHaveLength(2);
    expect((await questions.timeline(0, 'day')).reduce((sum, { requests }) => sum + requests, 0)).toBe(3);
    expect((await questions.total(NOW - 500 * DAY)).requests).toBe(3);
  });

  test('what is older than single events are kept is never counted again, however often it is told', async () => {
    const old = [event({ at: NOW - 40 * DAY }), event({ at: NOW - 40 * DAY }), event()];
    await ledger.take('here', old);
    await ledger.tidy();
    expect((await ledger.take('here', old)).added).toBe(0);
    expect((await questions.total(NOW - 50 * DAY)).requests).toBe(3);
  });

  test('gives back what came by exports only: a record of a queue has another id there', async () => {
    await ledger.take('here', [event({ provider: '', endpoint: '', id: 'detail' })], true);
    await ledger.take('here', [event({ id: 'record' })]);
    expect((await ledger.restorable('here', new Set())).map(({ id }) => id)).toEqual(['detail']);
  });

  test('keeps accounts apart that look the same, and masks a key that looks like an address', async () => {
    await ledger.take('here', [
      event({ account: 'carol@example.com' }),
      event({ account: 'chris@example.com', apiKey: 'alice@9f3ksecretsecret' }),
    ]);
    expect((await questions.top('account', 0)).map(({ name, requests }) => [name, requests])).toEqual([
      ['c***@example.com', 1],
      ['c***@example.com', 1],
    ]);
    expect(JSON.stringify(await questions.top('key', 0))).not.toContain('alice');
  });

  test('keeps names in clear nowhere, but for what has to be imported again, and there encrypted', async () => {
    const secret = 'sk-a-very-secret-client-key-42';
    await ledger.take('here', [event({ apiKey: secret, account: 'someone@example.com', provider: '', endpoint: '' })], true);
    const dump = JSON.stringify(
      await ledger.database.read(async (db) => [
        await db.selectFrom('tokenmirror_usage_events').selectAll().execute(),
        await db.selectFrom('tokenmirror_usage_names').selectAll().execute(),
      ]),
    );
    expect(dump).not.toContain(secret);
    expect(dump).not.toContain('someone@');
    expect(await ledger.restorable('here', new Set())).toMatchObject([{ apiKey: secret, account: 'someone@example.com' }]);
  });

  test('goes into files and comes back out of them', async () => {
    const text = JSON.stringify(
      snapshotOf([
        event({ timestamp: '2026-03-10T12:00:00.123456789+02:00', at: Date.parse('2026-03-10T10:00:00.123Z') }),
        event({ failed: true }),
      ]),
    );
    const events = readUsageFile(text) ?? [];
    await ledger.take('here', events, true);
    const written = async (format: 'v1' | 'csv' | 'jsonl'): Promise<string> => {
      let whole = '';
      for await (const part of exportLedger(ledger, format, 0)) whole += part;
      return whole;
    };
    const again = readSnapshot(JSON.parse(await written('v1'))) ?? [];
    expect(again.map(({ id }) => id).sort()).toEqual(events.map(({ id }) => id).sort());
    const csv = (await written('csv')).trim().split('\n');
    expect(csv).toHaveLength(3);
    expect(csv[0]).toContain('timestamp,origin,key,model');
    expect(
      (await written('jsonl'))
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { total: number }).total),
    ).toEqual([120, 120]);
    expect(csv.join('')).not.toContain('sk-client-of-the-ledger-1');
  });
});

describe('a record of CLIProxyAPI', () => {
  const record = {
    timestamp: '2026-03-10T12:00:00.123456789+02:00',
    source: 'claude@example.com',
    auth_index: 3,
    tokens: { input_tokens: 5, output_tokens: 6, cache_read_tokens: 2, cache_creation_tokens: 1 },
    failed: false,
    provider: 'claude',
    model: 'm',
    api_key: 'sk-x',
    client_ip: '10.0.0.1',
    response_headers: { 'set-cookie': 'secret' },
    fail: { status_code: 500, body: 'private' },
  };

  test('is the same in whatever order its fields come, keeps its nanoseconds, and loses what is private', () => {
    const reversed = Object.fromEntries(Object.entries(record).reverse());
    const [one, two] = [readRecord(JSON.stringify(record)), readRecord(JSON.stringify(reversed, null, 2))];
    expect(one?.id).toBe(two?.id);
    expect(one).toMatchObject({
      timestamp: record.timestamp,
      at: Date.parse('2026-03-10T10:00:00.123Z'),
      authIndex: '3',
      tokens: { input: 5, cached: 2, cacheCreation: 1, total: 11 },
    });
    expect(JSON.stringify(one)).not.toMatch(/10\.0\.0\.1|cookie|private/);
  });

  test.each(['{"support_refresh":true}', '{"refresh":true}', '', 'null', '[]', '{"timestamp":"yesterday"}', '{"timestamp":5}'])(
    'is not %j',
    (text) => {
      expect(readRecord(text)).toBeUndefined();
    },
  );

  test('odd values in it cost nothing but themselves', () => {
    const odd = {
      ...record,
      tokens: { input_tokens: -5, output_tokens: 'x', total_tokens: 1.5 },
      latency_ms: null,
      failed: 'no',
      source: null,
    };
    expect(readRecord(JSON.stringify(odd))).toMatchObject({
      account: '',
      failed: false,
      latencyMs: 0,
      tokens: { input: 0, output: 0, total: 0 },
    });
  });
});

describe('a backup', () => {
  let registry: KeyRegistry;
  let ledger: Ledger;
  let store: FilesystemStore;
  const opened: Database<UsageTables>[] = [];

  async function newLedger(): Promise<Ledger> {
    const file = join(temporaryDirectory('backup'), 'companions.db');
    registry = await KeyRegistry.open({
      database: await Database.open<KeyTables>({ kind: 'embedded', file }, KEY_SCHEMA),
      clock,
      secrets: [],
    });
    const database = await Database.open<UsageTables>({ kind: 'embedded', file }, USAGE_SCHEMA);
    opened.push(database);
    return new Ledger({ database, registry, clock, keepEventsMs: DAY, keepHoursMs: DAY });
  }

  beforeEach(async () => {
    now = NOW;
    ledger = await newLedger();
    store = new FilesystemStore({ directory: join(temporaryDirectory('backup-store'), 'store') });
    await store.open('create');
  });

  afterEach(async () => {
    await store.close();
    for (const database of opened.splice(0)) await database.close();
  });

  const backUp = (of = ledger) => new UsageBackup({ ledger: of, clock, name: 'one' }).write(store);

  test('of the sums is read back as it was, and brings a lost ledger its days, once', async () => {
    await ledger.take('here', [event(), event({ at: NOW - DAY }), event({ at: NOW - 100 * DAY })]);
    expect(await backUp()).toEqual({ status: 'written', requests: 3, missing: 0 });
    const fresh = await newLedger();
    await fresh.take('here', [event()]);
    const backup = (await readBackups(store)).get('one');
    if (backup === undefined) throw new Error('there is no backup');
    expect(await fresh.restore(backup)).toBe(2);
    expect(await fresh.restore(backup)).toBe(0);
    const questions = new Questions({ ledger: fresh, registry, clock, prices: undefined });
    expect((await questions.total(NOW - 200 * DAY)).requests).toBe(3);
    expect((await questions.top('account', NOW - 200 * DAY))[0]).toMatchObject({ name: 'c***@example.com' });
  });

  test('forgets no day because the ledger did, tells of it, and gives it back', async () => {
    await ledger.take('here', [event(), event(), event({ at: NOW - DAY })]);
    await backUp();
    const lost = await newLedger();
    await lost.take('here', [event({ at: NOW + DAY })]);
    await lost.take('there', [event()]);
    for (const ms of [0, DAY, DAY]) {
      now += ms;
      expect(await backUp(lost)).toEqual({ status: 'written', requests: 2, missing: 3 });
    }
    const backup = (await readBackups(store)).get('one');
    expect(backup?.days.map(({ start, origin, requests }) => [Math.floor(start / DAY) - Math.floor(NOW / DAY), origin, requests])).toEqual([
      [-1, 'here', 1],
      [0, 'there', 1],
      [0, 'here', 2],
      [1, 'here', 1],
    ]);
    if (backup === undefined) throw new Error('there is no backup');
    expect(await lost.restore(backup, 'more')).toBe(3);
    expect(await backUp(lost)).toEqual({ status: 'written', requests: 5, missing: 0 });
  });

  test.each(['jsonl', 'csv'] as const)('goes into another ledger as %s, whatever it holds', async (format) => {
    await ledger.take('here, "and" there', [
      event({ model: '=evil("x")', endpoint: 'a\nb,c' }),
      event({ failed: true, model: "'=quoted" }),
    ]);
    let text = '';
    for await (const part of exportLedger(ledger, format, 0)) text += part;
    const events = readLedgerExport(text);
    expect(events).toHaveLength(2);
    const other = await newLedger();
    expect(await other.takeBack('here, "and" there', events ?? [])).toBe(2);
    expect((await other.summary()).days).toEqual((await ledger.summary()).days);
    let again = '';
    for await (const part of exportLedger(other, format, 0)) again += part;
    expect(again).toBe(text);
    expect(readLedgerExport(text.slice(0, -20))).toBeUndefined();
  });

  test('tidies names that nothing refers to any more, and nothing else', async () => {
    await ledger.take('here', [event({ provider: '', endpoint: '', at: NOW - 2 * DAY, apiKey: 'sk-of-the-day-before-yesterday' })], true);
    await ledger.take('here', [event({ provider: '', endpoint: '' })], true);
    const sealed = () =>
      ledger.database.read((db) =>
        db.selectFrom('tokenmirror_usage_names').select('mask').where('sealed', 'is not', null).orderBy('mask').execute(),
      );
    expect(await sealed()).toHaveLength(3);
    await ledger.tidy();
    expect((await sealed()).map(({ mask }) => mask)).not.toContainEqual(expect.stringMatching(/rday$/));
    expect(await sealed()).toHaveLength(2);
    expect(await ledger.restorable('here', new Set())).toHaveLength(1);
  });

  test('replaces a day of which it knows more, and leaves one of which it knows less', async () => {
    await ledger.take('here', [event(), event(), event({ at: NOW - DAY })]);
    await backUp();
    const lost = await newLedger();
    await lost.take('here', [event(), event({ at: NOW - DAY }), event({ at: NOW - DAY })]);
    const backup = (await readBackups(store)).get('one');
    if (backup === undefined) throw new Error('there is no backup');
    expect(await lost.restore(backup)).toBe(0);
    expect(await lost.restore(backup, 'more')).toBe(1);
    expect((await lost.summary()).days.map(({ requests }) => requests)).toEqual([2, 2]);
  });

  test('keeps seven days and twelve months, however long it goes on', async () => {
    for (let day = 0; day < 400; day += 20) {
      now = NOW + day * DAY;
      await ledger.take('here', [event()]);
      await backUp();
    }
    const { entries } = await store.list();
    expect(entries.filter(({ name }) => name.startsWith('usage/')).length).toBeLessThanOrEqual(19);
  });

  test('that was damaged is none', async () => {
    await ledger.take('here', [event()]);
    const text = encodeBackup({ at: now, ...(await ledger.summary()) });
    expect(decodeBackup(text)?.days).toHaveLength(1);
    const { data, ...rest } = JSON.parse(text) as { data: string };
    expect(decodeBackup(JSON.stringify({ ...rest, data: data.slice(0, -8) }))).toBeUndefined();
    expect(decodeBackup(JSON.stringify({ ...rest, digest: 'x', data }))).toBeUndefined();
    expect(decodeBackup('nothing')).toBeUndefined();
  });
});
