import { randomBytes } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Clock } from '@tokenmirror/core';
import { cleanTemporaryDirectories, createSchema } from '@tokenmirror/testkit';
import { parseQuota, parseTerm, type KeyRegistry } from '../src/index.js';
import { countUse, openRegistry, REGISTRY_PLACES, type RegistryPlace } from './registry-places.js';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const START = Date.parse('2026-03-10T10:30:00Z');

let now: number;
const clock: Clock = { now: () => now, monotonic: () => now, after: () => () => undefined };

afterAll(cleanTemporaryDirectories);

describe.each(['embedded', 'postgres'] as const)('a registry in %s', (kind) => {
  let place: RegistryPlace;
  let registry: KeyRegistry;

  beforeEach(async () => {
    now = START;
    place = await REGISTRY_PLACES[kind]();
    registry = await openRegistry(place.place, clock);
  });

  afterEach(async () => {
    await registry.close();
    await place.destroy();
  });

  const add = (more: Partial<Parameters<KeyRegistry['add']>[1]> = {}) =>
    registry.add('cli:me', { owner: 'Me@Example.com', term: { kind: 'after', ms: DAY }, ...more });
  const wantedKeys = async () => (await registry.wanted()).keys.filter(({ isWanted }) => isWanted).map(({ key }) => key);

  test('makes a key that names its owner, shows it once, and keeps no clear text', async () => {
    const { key, record } = await add();
    expect(key).toMatch(/^sk-me-[A-Za-z0-9]{32}$/);
    expect(record).toMatchObject({ owner: 'me@example.com', status: 'active', expiresAt: START + DAY, createdBy: 'cli:me' });
    expect(record.mask).not.toContain(key.slice(10, 30));
    expect(await place.dump()).not.toContain(key.slice(6));
    expect(await wantedKeys()).toEqual([key]);
    await expect(add({ key })).rejects.toMatchObject({ code: 'KEY_REFUSED' });
  });

  test('finds a key by id, by itself and by its mask, and says which one is not there without showing it', async () => {
    const { key, record } = await add();
    for (const reference of [record.id, key, record.mask]) expect((await registry.get(reference)).id).toBe(record.id);
    const unknown = 'sk-never-registered-here-1234567890';
    await expect(registry.get(unknown)).rejects.toMatchObject({ code: 'KEY_UNKNOWN', message: expect.not.stringContaining(unknown) });
  });

  test('ends a key with its term, and says when that is', async () => {
    await add();
    expect((await registry.wanted()).changesAt).toBe(START + DAY);
    now += DAY;
    expect(await wantedKeys()).toEqual([]);
    expect((await registry.list({ filter: 'expired' })).total).toBe(1);
    expect((await registry.list({ filter: 'active' })).total).toBe(0);
  });

  test('extends what is left of a running term, begins anew where it ended, and refuses where there is none', async () => {
    const { record } = await add();
    expect((await registry.setTerm('http', record.id, parseTerm('2d'), 'extend')).expiresAt).toBe(START + 3 * DAY);
    now += 5 * DAY;
    expect((await registry.setTerm('http', record.id, parseTerm('1h'), 'extend')).expiresAt).toBe(now + HOUR);
    expect((await registry.setTerm('http', record.id, parseTerm('1h'), 'set')).expiresAt).toBe(now + HOUR);
    expect((await registry.setTerm('http', record.id, parseTerm('never'), 'extend')).expiresAt).toBeNull();
    await expect(registry.setTerm('http', record.id, parseTerm('1h'), 'extend')).rejects.toMatchObject({ code: 'KEY_REFUSED' });
    await expect(registry.setTerm('http', record.id, parseTerm('2020-01-01'), 'set')).rejects.toMatchObject({ code: 'KEY_INVALID' });
  });

  test('rotates with an overlap: the successor has everything of the old one, which goes on for a while and once only', async () => {
    const { key, record } = await add({ labels: ['ci'], quota: parseQuota('5 requests/day'), note: 'for tests' });
    const next = await registry.rotate('cli:me', record.id, HOUR);
    expect(next.record).toMatchObject({ owner: 'me@example.com', labels: ['ci'], note: 'for tests', expiresAt: START + DAY });
    expect(await wantedKeys()).toEqual(expect.arrayContaining([key, next.key]));
    now += HOUR;
    expect(await wantedKeys()).toEqual([next.key]);
    expect(await registry.get(record.id)).toMatchObject({ replacedBy: next.record.id });
    await expect(registry.rotate('cli:me', record.id, HOUR)).rejects.toMatchObject({ code: 'KEY_REFUSED' });
  });

  test('forgets a deleted key but for its hash, and takes it again', async () => {
    const { key, record } = await add();
    await registry.delete('cli:me', record.id);
    expect((await registry.list()).total).toBe(0);
    expect((await registry.wanted()).keys).toMatchObject([{ id: record.id, isWanted: false, key: undefined }]);
    await expect(registry.get(record.id)).rejects.toMatchObject({ code: 'KEY_UNKNOWN' });
    expect((await add({ key })).record.id).toBe(record.id);
    expect(await wantedKeys()).toEqual([key]);
  });

  test('counts the use of a quota, ends the key when it is used up, warns at 80 and 100 %, and begins anew on time', async () => {
    const { key, record } = await add({ quota: parseQuota('10 requests per hour'), term: { kind: 'never' } });
    const use = (requests: number, at = now) => countUse(registry, { key, at, requests, tokens: 100 });
    expect(await use(7)).toEqual([]);
    expect(await use(1)).toMatchObject([{ part: 0.8, record: { id: record.id } }]);
    const before = await registry.revision();
    expect(await use(2)).toMatchObject([{ part: 1 }]);
    expect(await registry.revision()).toBeGreaterThan(before);
    expect(await wantedKeys()).toEqual([]);
    expect((await registry.list({ filter: 'exhausted' })).total).toBe(1);
    expect((await registry.wanted()).changesAt).toBe(Date.parse('2026-03-10T11:00:00Z'));
    now = Date.parse('2026-03-10T11:00:00Z');
    expect(await wantedKeys()).toEqual([key]);
    expect(await use(3, now - 1)).toEqual([]);
    expect((await registry.get(record.id)).used.requests).toBe(0);
    expect((await registry.get(record.id)).lastUsedAt).toBe(now - 1);
  });

  test('keeps a line of everything that was done and of what failed, newest first, and never a key', async () => {
    const { key, record } = await add();
    await registry.setStatus('telegram:7', record.id, 'disabled');
    await registry.setStatus('telegram:7', 'key_nobody', 'active').catch(() => undefined);
    const { items, total } = await registry.audit.list();
    expect(total).toBe(3);
    expect(items.map(({ actor, action, outcome }) => [actor, action, outcome])).toEqual([
      ['telegram:7', 'enable', 'failed'],
      ['telegram:7', 'disable', 'ok'],
      ['cli:me', 'add', 'ok'],
    ]);
    expect(JSON.stringify(items)).not.toContain(key.slice(6));
  });

  test('adopts what CLIProxyAPI has, and leaves what is known as it is', async () => {
    const { key } = await add();
    const adopted = await registry.adopt('cli:me', [key, 'sk-operator-own-key-1', 'sk-operator-own-key-1'], {
      owner: '',
      term: { kind: 'never' },
    });
    expect(adopted).toHaveLength(1);
    expect((await wantedKeys()).sort()).toEqual([key, 'sk-operator-own-key-1'].sort());
  });

  test.each([
    'short',
    'key_looks-like-an-id',
    'who@ever-is-this',
    'with blank inside',
    'your-api-key-1',
    'sk-tokenmirror-closed-abcdefgh',
    'ümläute-sind-nichts',
  ])('refuses the key %j', async (key) => {
    await expect(add({ key })).rejects.toMatchObject({ code: 'KEY_INVALID' });
  });

  test('writes clear keys anew under the secret that encrypts now, and says which ones nobody can read', async () => {
    const first = { id: 'first', secret: randomBytes(32) };
    const second = { id: 'second', secret: randomBytes(32) };
    await registry.close();
    registry = await openRegistry(place.place, clock, [first]);
    const { key, record } = await add();
    await registry.close();
    registry = await openRegistry(place.place, clock, [second, first]);
    await registry.close();
    registry = await openRegistry(place.place, clock, [second]);
    expect(await wantedKeys()).toEqual([key]);
    await registry.close();
    await expect(openRegistry(place.place, clock, [first])).rejects.toMatchObject({ code: 'ENCRYPTION_KEY' });
    registry = await openRegistry(place.place, clock, [second]);
    expect((await registry.get(key)).id).toBe(record.id);
  });

  test('counts what two replicas report at once, all of it', async () => {
    const { key, record } = await add({ quota: parseQuota('1000 requests per hour') });
    const other = await openRegistry(place.place, clock);
    const uses = Array.from({ length: 40 }, (_, n) => countUse(n % 2 === 0 ? registry : other, { key, at: now, requests: 1, tokens: 1 }));
    await Promise.all([...uses, registry.describe('test', record.id, { note: 'meanwhile' })]);
    expect((await registry.get(record.id)).used).toEqual({ requests: 40, tokens: 40 });
    await other.close();
  });

  test('a clock that was ahead once does not end counting', async () => {
    const { key, record } = await add({ quota: parseQuota('10 requests per day') });
    now += 3 * DAY;
    await countUse(registry, { key, at: now, requests: 5, tokens: 0 });
    now -= 3 * DAY;
    await countUse(registry, { key, at: now, requests: 2, tokens: 0 });
    expect((await registry.get(record.id)).used.requests).toBe(2);
  });

  test('does not revive a deleted key by an import, and masks what has the shape of a key in the audit log', async () => {
    const { key, record } = await add();
    await registry.delete('cli:me', record.id);
    const { imported, left } = await registry.import('cli:me', [{ key, owner: '', expiresAt: null }]);
    expect([imported, left]).toMatchObject([[], [{ reason: 'this key was deleted here' }]]);
    await registry.audit.note('http', 'recharge-request', 'ok', `somebody wrote ${key} here`);
    expect((await registry.audit.list()).items[0]?.detail).not.toContain(key);
  });

  test('adopts whatever lets somebody in, and never with a term that is over', async () => {
    expect(await registry.adopt('cli:me', ['abc123', 'your-api-key-1'], { owner: '', term: { kind: 'never' } })).toHaveLength(1);
    const over = { owner: '', term: { kind: 'until', at: now - 1 } } as const;
    await expect(registry.adopt('cli:me', ['sk-an-operators-own'], over)).rejects.toMatchObject({ code: 'KEY_INVALID' });
  });

  test('two processes that change it at once lose nothing', async () => {
    const other = await openRegistry(place.place, clock);
    const before = await registry.revision();
    await Promise.all(
      Array.from({ length: 20 }, (_, n) => (n % 2 === 0 ? registry : other).add('cli:me', { owner: '', term: { kind: 'never' } })),
    );
    expect((await registry.list()).total).toBe(20);
    expect(await registry.revision()).toBe(before + 20);
    await other.close();
  });

  test('two processes that come upon a new database at once make it once', async () => {
    const fresh = await REGISTRY_PLACES[kind]();
    const both = await Promise.all([openRegistry(fresh.place, clock), openRegistry(fresh.place, clock)]);
    expect(both[0].secrets.hashOf('same')).toBe(both[1].secrets.hashOf('same'));
    for (const each of both) await each.close();
    await fresh.destroy();
  });
});

test('the file of an embedded registry is for its owner alone', async () => {
  now = START;
  const { place } = await REGISTRY_PLACES.embedded();
  const registry = await openRegistry(place, clock);
  await registry.add('cli:me', { owner: '', term: { kind: 'never' } });
  if (place.kind === 'embedded') for (const end of ['', '-wal', '-shm']) expect(statSync(place.file + end).mode & 0o777).toBe(0o600);
  await registry.close();
});

test('after the first start the rights that the documentation names are enough', async () => {
  now = START;
  const created = await createSchema();
  const page = readFileSync(join(import.meta.dirname, '../../../docs/postgres.md'), 'utf8');
  const grants = /registry of API keys[\s\S]*?```sql\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
  const url = new URL(created.dsn);
  const place = (user: string, password: string) => ({
    kind: 'postgres' as const,
    config: { host: url.hostname, port: Number(url.port), user, password, database: url.pathname.slice(1) },
    schema: created.schema,
    description: 'postgres',
  });
  await (await openRegistry(place(url.username, url.password), clock)).close();
  const role = `keys_${created.schema}`;
  await created.query(`CREATE ROLE ${role} LOGIN PASSWORD 'of-tests'; GRANT USAGE ON SCHEMA ${created.schema} TO ${role}`);
  await created.query(grants.replaceAll('public.', `${created.schema}.`).replaceAll('tokenmirror_user', role));
  const registry = await openRegistry(place(role, 'of-tests'), clock);
  const { key, record } = await registry.add('cli:me', { owner: '', term: { kind: 'never' } });
  await countUse(registry, { key, at: now, requests: 1, tokens: 1 });
  await registry.delete('cli:me', record.id);
  await registry.targets.note('here', { applied: [], revision: 1, problem: undefined });
  await registry.close();
  await created.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  await created.destroy();
});
