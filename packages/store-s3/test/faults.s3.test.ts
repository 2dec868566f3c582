import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { CONFIG_KEY, type Change, type DocumentKey, type Revision } from '@tokenmirror/core';
import { S3Store, type S3StoreOptions } from '@tokenmirror/store-s3';
import { FaultProxy, S3Server, TestBucket, type Fault, type SeenRequest } from '@tokenmirror/testkit';

const KEY = 'auths/claude-a@example.com.json' as DocumentKey;
const OTHER = 'auths/claude-b@example.com.json' as DocumentKey;

let bucket: TestBucket;
let proxy: FaultProxy;
let stores: S3Store[];

beforeEach(async () => {
  bucket = new TestBucket();
  proxy = await FaultProxy.before(bucket.access.endpoint);
  stores = [];
});

afterEach(async () => {
  jest.useRealTimers();
  proxy.fault = () => undefined;
  for (const store of stores) await store.close();
  await proxy.close();
  await bucket.destroy();
});

const text = (value: string): string => JSON.stringify({ type: 'claude', access_token: value });
const xml = (code: string): string =>
  `<?xml version="1.0" encoding="UTF-8"?><Error><Code>${code}</Code><Message>the words of the server</Message></Error>`;

function made(more: Partial<S3StoreOptions> = {}): S3Store {
  const store = new S3Store({ ...bucket.access, endpoint: proxy.url, prefix: bucket.prefix, timeoutMs: 4000, ...more });
  stores.push(store);
  return store;
}

async function opened(more: Partial<S3StoreOptions> = {}): Promise<S3Store> {
  const store = made(more);
  await store.open('create');
  return store;
}

function changeOf(key: DocumentKey, expected: Revision | 'absent', content: string | null): Change {
  return { key, expected, content, lineage: [] };
}

async function put(store: S3Store, key: DocumentKey, content: string): Promise<Revision> {
  const expected = (await store.read([key])).get(key)?.revision ?? 'absent';
  const [outcome] = await store.write([changeOf(key, expected, content)], 'me');
  if (outcome?.status !== 'written') throw new Error('not written');
  return outcome.revision;
}

/** The first requests of a kind meet a fault. */
function meet(fault: Fault, times: number, is: (request: SeenRequest) => boolean): void {
  let left = times;
  proxy.fault = (request) => (is(request) && left-- > 0 ? fault : undefined);
}

const isAppend = ({ method, path }: SeenRequest): boolean => method === 'PUT' && path.includes('.tokenmirror/log/');
const content = async (store: S3Store, key: DocumentKey): Promise<string | undefined> => {
  const entry = (await store.read([key])).get(key);
  return entry?.state === 'live' ? entry.content : undefined;
};

describe('trouble that passes', () => {
  test.each<[string, Fault]>([
    ['an internal error', { status: 500, body: xml('InternalError') }],
    ['a request to slow down', { status: 503, body: xml('SlowDown') }],
    ['a broken connection', 'reset'],
  ])('%s is tried again, and the write is done once', async (_, fault) => {
    const store = await opened();
    meet(fault, 2, isAppend);
    await put(store, KEY, text('1'));
    expect(await bucket.names('.tokenmirror/log/')).toHaveLength(1);
    expect(await bucket.get(KEY)).toBe(text('1'));
  });

  test('a write whose answer was lost is recognised as ours, and not done twice', async () => {
    const store = await opened();
    meet('lose-answer', 1, isAppend);
    await put(store, KEY, text('1'));
    expect(await bucket.names('.tokenmirror/log/')).toHaveLength(1);
    expect(await content(await opened(), KEY)).toBe(text('1'));
  });

  test('an answer that breaks off is not taken for a document', async () => {
    const store = await opened();
    await put(store, KEY, text('1'));
    meet('cut-answer', 1, ({ method, path }) => method === 'GET' && path.includes('.tokenmirror/log/'));
    expect(await content(await opened(), KEY)).toBe(text('1'));
  });

  test('trouble that goes on is an outage; the same store works again when it is over', async () => {
    const store = await opened();
    await put(store, KEY, text('1'));
    for (const fault of [{ status: 503, body: xml('SlowDown') }, { status: 500 }, 'reset', 'hang'] as const) {
      proxy.fault = () => fault;
      await expect(store.list()).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
    }
    proxy.fault = () => undefined;
    expect(await content(store, KEY)).toBe(text('1'));
  });

  test('a server that was killed and started again has lost nothing that was answered', async () => {
    const server = await S3Server.create();
    try {
      const store = new S3Store({ ...server.access, timeoutMs: 2000 });
      await store.open('create');
      const first = await put(store, KEY, text('1'));
      await server.stop();
      await expect(store.write([changeOf(KEY, first, text('2'))], 'me')).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
      await server.start();
      expect(await content(store, KEY)).toBe(text('1'));
      await put(store, KEY, text('3'));
      await store.close();
    } finally {
      await server.destroy();
    }
  });

  test('a clock that is an hour wrong is made up for', async () => {
    jest.useFakeTimers({
      now: Date.now() + 3_600_000,
      doNotFake: [
        'nextTick',
        'setImmediate',
        'setTimeout',
        'clearTimeout',
        'setInterval',
        'clearInterval',
        'performance',
        'queueMicrotask',
      ],
    });
    const store = await opened();
    await put(store, KEY, text('1'));
    expect(await content(store, KEY)).toBe(text('1'));
  });

  test('an append that its writer could not announce is seen by others after the next one, and not lost', async () => {
    const [dying, other] = [await opened(), await opened()];
    await put(dying, KEY, text('1'));
    const { cursor } = await other.list();
    proxy.fault = ({ method, path }) => (method === 'PUT' && path.includes('cluster.json') ? 'hang' : undefined);
    await expect(put(dying, KEY, text('2'))).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
    proxy.fault = () => undefined;
    await put(other, OTHER, text('other'));
    expect((await other.list(cursor)).entries.map(({ name }) => name).sort()).toEqual([KEY, OTHER]);
    expect(await content(other, KEY)).toBe(text('2'));
  });
});

describe('what a machine does that sleeps or dies', () => {
  test('the first write after hours of idleness is answered as what it is', async () => {
    const store = await opened();
    await put(store, KEY, text('1'));
    jest.useFakeTimers({
      now: Date.now() + 2 * 3_600_000,
      doNotFake: [
        'nextTick',
        'setImmediate',
        'setTimeout',
        'clearTimeout',
        'setInterval',
        'clearInterval',
        'performance',
        'queueMicrotask',
      ],
    });
    await put(store, KEY, text('2'));
    jest.useRealTimers();
    expect(await bucket.get(KEY)).toBe(text('2'));
  });

  test('a log that lacks a file is an outage, and nothing is written into the gap', async () => {
    const store = await opened();
    for (const value of ['1', '2', '3']) await put(store, KEY, text(value));
    const second = '.tokenmirror/log/000000000002.json';
    const kept = (await bucket.get(second)) ?? '';
    await bucket.remove(second);
    const fresh = await opened();
    await expect(fresh.list()).rejects.toMatchObject({
      code: 'STORE_UNREACHABLE',
      message: expect.stringContaining('lacks files of its log'),
    });
    await expect(fresh.write([changeOf(OTHER, 'absent', text('x'))], 'me')).rejects.toMatchObject({ code: 'STORE_UNREACHABLE' });
    await bucket.put(second, kept);
    expect(await content(fresh, KEY)).toBe(text('3'));
  });

  test('a copy that a killed writer left behind is put right by another replica', async () => {
    const [dying, other] = [await opened(), await opened()];
    await put(dying, KEY, text('1'));
    await other.list();
    proxy.fault = ({ method, path }) =>
      method === 'PUT' && path.includes('/auths/') ? { status: 403, body: xml('AccessDenied') } : undefined;
    await put(dying, KEY, text('2'));
    proxy.fault = () => undefined;
    expect(await bucket.get(KEY)).toBe(text('1'));
    await other.list();
    expect(await bucket.get(KEY)).toBe(text('2'));
  });

  test.each([
    ['a text that only its owner can read', KEY, ']sealed'],
    ['a deletion', KEY, null],
  ])('%s that was not announced is not undone by who had not heard of it', async (_, key, later) => {
    const [dying, other] = [await opened(), await opened({ listingMs: 0 })];
    const revision = await put(dying, key, text('1'));
    const { cursor } = await other.list();
    const announced = (await bucket.get('.tokenmirror/cluster.json')) ?? '';
    await dying.write([changeOf(key, revision, later)], 'me');
    await bucket.put('.tokenmirror/cluster.json', announced);
    const { entries } = await other.list(cursor);
    expect(entries).toMatchObject([{ name: key, state: later === null ? 'deleted' : 'live' }]);
    expect(await bucket.get(key)).toBe(later ?? undefined);
  });

  test('a change that was not heard of is not taken for an edit of a stranger, whatever else is put back', async () => {
    const [writer, other] = [await opened(), await opened({ listingMs: 0 })];
    const revision = await put(writer, KEY, text('1'));
    await put(writer, OTHER, text('1'));
    const { cursor } = await other.list();
    const announced = (await bucket.get('.tokenmirror/cluster.json')) ?? '';
    const [outcome] = await writer.write([changeOf(KEY, revision, text('2'))], 'me');
    await bucket.put('.tokenmirror/cluster.json', announced);
    await bucket.remove(OTHER);
    await other.list(cursor);
    expect(outcome).toEqual({ status: 'written', revision: (await other.read([KEY])).get(KEY)?.revision });
    expect(await bucket.get(OTHER)).toBe(text('1'));
  });

  test('who only opened a bucket to look announces what it writes all the same', async () => {
    const [writer, other] = [await opened(), await opened()];
    const revision = await put(writer, KEY, text('1'));
    const { cursor } = await other.list();
    const looking = made();
    await looking.open('look');
    await looking.write([changeOf(KEY, revision, text('2'))], 'me');
    expect((await other.list(cursor)).entries).toHaveLength(1);
  });

  test('a lost answer while the bucket is tried is not taken for a bucket without conditions', async () => {
    meet('lose-answer', 1, ({ method, path }) => method === 'PUT' && path.includes('probe-'));
    await put(await opened(), KEY, text('1'));
    expect((await bucket.names('.tokenmirror/')).filter((name) => name.includes('probe'))).toEqual([]);
  });
});

describe('refusals are named, with the remedy, without secrets', () => {
  test.each<[string, Partial<S3StoreOptions>, RegExp]>([
    ['a wrong secret', { secretKey: 'another-secret' }, /access key or the secret key/],
    ['a missing bucket', { bucket: 'no-such-bucket' }, /bucket does not exist|right is missing|access key/],
  ])('%s', async (_, wrong, message) => {
    const error = await made(wrong)
      .open('create')
      .catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'STORE_DENIED', message: expect.stringMatching(message) });
    expect(JSON.stringify(error) + String(error)).not.toContain(bucket.access.secretKey);
    expect(JSON.stringify(error) + String(error)).not.toContain('another-secret');
  });

  test.each([
    [400, 'ExpiredToken', 'STORE_DENIED', /expired/],
    [403, 'AccessDenied', 'STORE_DENIED', /right is missing/],
    [403, 'RequestTimeTooSkewed', 'STORE_DENIED', /clock/],
    [301, 'PermanentRedirect', 'STORE_DENIED', /region/],
    [507, 'InsufficientStorage', 'STORE_FULL', /no room/],
  ])('%s %s', async (status, name, code, message) => {
    proxy.fault = () => ({ status, body: xml(name) });
    const error = await made()
      .open('create')
      .catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    expect(String(error)).not.toContain('the words of the server');
  });
});

describe('a provider that', () => {
  /** Carries a write out with other conditions than were asked for. */
  const writeWith =
    (path: string, conditions: { readonly IfMatch?: string; readonly IfNoneMatch?: string }): Fault =>
    (response, body) => {
      const { access } = bucket;
      const client = new S3Client({
        endpoint: access.endpoint,
        region: access.region,
        forcePathStyle: true,
        credentials: { accessKeyId: access.accessKey, secretAccessKey: access.secretKey },
        requestChecksumCalculation: 'WHEN_REQUIRED',
      });
      const key = decodeURIComponent(path.slice(path.indexOf(`/${access.bucket}/`) + access.bucket.length + 2).replace(/\?.*/, ''));
      client.send(new PutObjectCommand({ Bucket: access.bucket, Key: key, Body: body, ...conditions })).then(
        ({ ETag = '' }) => response.writeHead(200, { etag: ETag }).end(),
        () => response.writeHead(412).end(),
      );
    };

  test('ignores conditions is refused as the authority, and good for a mirror', async () => {
    proxy.fault = ({ method, path }) => (method === 'PUT' ? writeWith(path, {}) : undefined);
    await expect(made().open('create')).rejects.toMatchObject({
      code: 'STORE_UNSUITABLE',
      message: expect.stringContaining('If-None-Match and If-Match'),
    });
    const mirror = await opened({ isMirror: true });
    const first = await put(mirror, KEY, text('1'));
    await put(mirror, KEY, text('2'));
    expect(await mirror.write([changeOf(KEY, first, text('3'))], 'me')).toEqual([{ status: 'refused' }]);
    expect(await bucket.get(KEY)).toBe(text('2'));
  });

  test('does not know conditions at all is found out too', async () => {
    proxy.fault = ({ headers }) =>
      headers['if-match'] !== undefined || headers['if-none-match'] === '*' ? { status: 501, body: xml('NotImplemented') } : undefined;
    await expect(made().open('create')).rejects.toMatchObject({ code: 'STORE_UNSUITABLE' });
    await put(await opened({ isMirror: true }), KEY, text('1'));
    expect(await bucket.get(KEY)).toBe(text('1'));
  });

  test('wants ETags without quotes gets them so', async () => {
    proxy.fault = ({ method, path, headers }) => {
      const etag = headers['if-match'];
      if (method !== 'PUT' || etag === undefined) return undefined;
      return etag.startsWith('"') ? { status: 412, body: xml('PreconditionFailed') } : writeWith(path, { IfMatch: `"${etag}"` });
    };
    const store = await opened();
    await put(store, KEY, text('1'));
    await put(store, KEY, text('2'));
    expect(await bucket.get(KEY)).toBe(text('2'));
  });

  test('asks to repeat a conditional write that met another one is obeyed', async () => {
    const store = await opened();
    meet({ status: 409, body: xml('ConditionalRequestConflict') }, 2, isAppend);
    await put(store, KEY, text('1'));
    expect(await bucket.get(KEY)).toBe(text('1'));
  });

  test('lists what it had a while ago makes no difference', async () => {
    const store = await opened();
    await put(store, KEY, text('1'));
    let old = '';
    proxy.fault = ({ path }) => (path.includes('list-type') && path.includes('auths') ? { status: 200, body: old } : undefined);
    old = `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>x</Name><IsTruncated>false</IsTruncated></ListBucketResult>`;
    const { entries } = await store.list();
    expect(entries).toMatchObject([{ name: KEY, state: 'live' }]);
    expect(await bucket.get(KEY)).toBe(text('1'));
  });
});

describe('what is asked for', () => {
  test('an idle poll is one conditional request, however many documents there are', async () => {
    const store = await opened();
    const keys = Array.from({ length: 200 }, (_, n) => `auths/many-${String(n)}.json` as DocumentKey);
    await store.write(
      keys.map((key) => changeOf(key, 'absent', text(key))),
      'me',
    );
    const { cursor } = await store.list();
    proxy.requests.length = 0;
    await store.list(cursor);
    expect(proxy.requests).toMatchObject([{ method: 'GET', headers: { 'if-none-match': expect.anything() } }]);
  });

  test('contents are laid out and typed as CLIProxyAPI does it, and nothing else but our own folder is there', async () => {
    const store = await opened();
    await put(store, KEY, text('1'));
    await put(store, CONFIG_KEY, 'port: 8317\n');
    expect(await bucket.look(KEY)).toEqual({ text: text('1'), contentType: 'application/json' });
    expect(await bucket.look(CONFIG_KEY)).toEqual({ text: 'port: 8317\n', contentType: 'application/x-yaml' });
    expect((await bucket.names()).filter((name) => !name.startsWith('.tokenmirror/')).sort()).toEqual([KEY, CONFIG_KEY]);
  });

  test('an object that somebody wrote in between is not overwritten, and counts', async () => {
    const store = await opened();
    await put(store, KEY, text('1'));
    await bucket.put(KEY, text('by somebody'));
    await put(store, KEY, text('2'));
    expect(await bucket.get(KEY)).toBe(text('by somebody'));
    await store.list();
    expect(await content(store, KEY)).toBe(text('by somebody'));
    const versions = await store.history.versions(KEY);
    expect(await Promise.all(versions.map(({ id }) => store.history.content(KEY, id)))).toEqual([text('2'), text('1')]);
  });

  test('a name that is too long for object storage is refused by itself', async () => {
    const store = await opened();
    const long = `auths/${`${'x'.repeat(200)}/`.repeat(5)}a.json` as DocumentKey;
    const outcomes = await store.write([changeOf(long, 'absent', text('1')), changeOf(KEY, 'absent', text('2'))], 'me');
    expect(outcomes).toMatchObject([{ status: 'unacceptable', reason: expect.stringContaining('too long') }, { status: 'written' }]);
    expect((await (await opened()).list()).entries.map(({ name }) => name)).toEqual([KEY]);
  });

  test('a bucket restored to an earlier state is read anew', async () => {
    const store = await opened();
    await put(store, KEY, text('old'));
    const copy = await Promise.all((await bucket.names()).map(async (name) => [name, (await bucket.get(name)) ?? ''] as const));
    await put(store, KEY, text('new'));
    await put(store, OTHER, text('other'));
    const { cursor } = await store.list();
    for (const name of await bucket.names()) await bucket.remove(name);
    for (const [name, old] of copy) await bucket.put(name, old);
    const listing = await store.list(cursor);
    expect(listing.complete).toBe(true);
    expect(listing.entries.map(({ name }) => name)).toEqual([KEY]);
    expect(await content(store, KEY)).toBe(text('old'));
  });
});
