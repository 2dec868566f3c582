import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { readFileSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Ajv } from 'ajv';
import addFormats from 'ajv-formats';
import {
  API_KEY,
  cleanTemporaryDirectories,
  CliProxyProcess,
  COMMAND,
  DaemonProcess,
  freePort,
  MANAGEMENT_KEY,
  runCommand,
  TelegramServer,
  temporaryDirectory,
  until,
  type CommandResult,
} from '@tokenmirror/testkit';

const TOKEN = 'a-bearer-token-for-tests';

let workspace: string;
let port: number;
let cpa: CliProxyProcess;
let daemon: DaemonProcess | undefined;
let words: readonly string[];

beforeEach(async () => {
  workspace = temporaryDirectory('keys');
  port = await freePort();
  cpa = new CliProxyProcess({ flavour: '7.2', workspace });
  daemon = undefined;
  words = ['--workspace', workspace, '--store', pathToFileURL(join(temporaryDirectory('keys-store'), 'store')).href];
  await cpa.start();
});

afterEach(async () => {
  await daemon?.kill();
  await cpa.end('SIGKILL');
});

afterAll(cleanTemporaryDirectories);

async function run(environment: Readonly<Record<string, string>> = {}): Promise<DaemonProcess> {
  daemon = new DaemonProcess(workspace, words.slice(2), {
    TOKENMIRROR_HTTP_LISTEN: `127.0.0.1:${String(port)}`,
    CLIPROXY_MGMT_KEY: MANAGEMENT_KEY,
    ...environment,
  });
  await daemon.start();
  return daemon;
}

const keys = (args: readonly string[], environment: Readonly<Record<string, string>> = { CLIPROXY_MGMT_KEY: MANAGEMENT_KEY }) =>
  runCommand(['keys', ...args, ...words], environment);
const models = async (key?: string): Promise<number> =>
  (await cpa.http('GET', '/v1/models', key === undefined ? {} : { authorization: `Bearer ${key}` })).status;
const jsonOf = ({ stdout }: CommandResult): Record<string, unknown> => JSON.parse(stdout) as Record<string, unknown>;

async function http(
  method: string,
  path: string,
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<{ status: number; json: Record<string, unknown> }> {
  const answer = await fetch(`http://127.0.0.1:${String(port)}${path}`, {
    method,
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  return { status: answer.status, json: (await answer.json()) as Record<string, unknown> };
}

describe('the command, beside a daemon', () => {
  test('goes through the life of a key; the key itself is all that stands on standard output, and nowhere else', async () => {
    const one = await run();
    const added = await keys([
      'add',
      '--owner',
      'me@example.com',
      '--term',
      '30d',
      '--quota',
      '1000 requests/day',
      '--label',
      'ci',
      '--label',
      'laptop',
    ]);
    expect(added.exitCode).toBe(0);
    const key = added.stdout.trim();
    expect(key).toMatch(/^sk-me-[A-Za-z0-9]{32}$/);
    expect(await models(key)).toBe(200);
    const listed = jsonOf(await keys(['list', '--json'])) as { items: { id: string; labels: string[] }[] };
    expect(listed.items).toMatchObject([{ labels: ['ci', 'laptop'], quota: '1000 requests per day', owner_email: 'me@example.com' }]);
    const id = listed.items[0]?.id ?? '';
    expect((await keys(['extend', id, '7d'])).exitCode).toBe(0);
    const successor = (await keys(['rotate', id, '--overlap', '1h'])).stdout.trim();
    expect([await models(key), await models(successor)]).toEqual([200, 200]);
    expect((await keys(['disable', id])).exitCode).toBe(0);
    expect([await models(key), await models(successor)]).toEqual([401, 200]);
    expect((await keys(['enable', id])).exitCode).toBe(0);
    expect(await models(key)).toBe(200);
    expect((await keys(['edit', id, '--note', 'old', '--quota', 'none'])).exitCode).toBe(0);
    expect(jsonOf(await keys(['show', id, '--json']))).toMatchObject({ note: 'old', quota: null, replaced_by: expect.any(String) });
    expect(await keys(['delete', id])).toMatchObject({ exitCode: 2 });
    expect((await keys(['delete', id, '--yes'])).exitCode).toBe(0);
    expect(await models(key)).toBe(401);
    const audit = await keys(['audit']);
    for (const action of ['add', 'extend', 'rotate', 'disable', 'enable', 'describe', 'delete']) expect(audit.stdout).toContain(action);
    const everything = [added.stderr, audit.stdout, one.output, (await keys(['list'])).stdout, (await keys(['show', id])).stderr].join('');
    for (const secret of [key, successor]) expect(everything).not.toContain(secret);
  });

  test('takes over what the operator had, only tells it before, and takes a key from standard input', async () => {
    await run();
    expect(jsonOf(await keys(['adopt', '--dry-run', '--json'])) as unknown).toMatchObject([{ target: 'beside', keys: ['sk-…ts'] }]);
    expect((jsonOf(await keys(['list', '--json'])) as { total: number }).total).toBe(0);
    expect((await keys(['adopt', '--owner', 'me@example.com'])).exitCode).toBe(0);
    const own = 'sk-a-key-that-i-made-myself-123456';
    const added = spawnSync(process.execPath, [COMMAND, 'keys', 'add', '--key-stdin', '--json', ...words], {
      input: `${own}\n`,
      env: { PATH: process.env['PATH'], HOME: '/nonexistent', CLIPROXY_MGMT_KEY: MANAGEMENT_KEY },
      encoding: 'utf8',
    });
    expect(added.status).toBe(0);
    expect([await models(own), await models(API_KEY), await models()]).toEqual([200, 200, 401]);
    expect((await keys(['sync', '--dry-run'])).stdout).toContain('would add none, remove none, keep none');
  });

  test.each([
    [['show', 'key_nobody'], 6, 'KEY_UNKNOWN'],
    [['add', '--term', 'someday'], 2, 'KEY_INVALID'],
    [['add', '--owner', 'nobody'], 2, 'KEY_INVALID'],
    [['add', '--quota', 'much'], 2, 'KEY_INVALID'],
    [['import', '/nonexistent/file'], 2, 'KEY_INVALID'],
    [['list', '--filter', 'odd'], 2, ''],
  ])('%j exits with %i', async (args, exitCode, code) => {
    const result = await keys(args);
    expect(result.exitCode).toBe(exitCode);
    expect(result.stderr).toContain(code);
  });
});

describe('without a daemon', () => {
  test('the command brings CLIProxyAPI up to date itself; without a management key it says who does', async () => {
    const added = await keys(['add', '--owner', 'me@example.com']);
    expect(added).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('applied') });
    expect(await models(added.stdout.trim())).toBe(200);
    const alone = await keys(['add'], {});
    expect(alone).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('CLIPROXY_MGMT_KEY') });
    expect(await models(alone.stdout.trim())).toBe(401);
    expect((await keys(['sync'])).exitCode).toBe(0);
    expect(await models(alone.stdout.trim())).toBe(200);
  });

  test('exits with 1 where CLIProxyAPI cannot be reached, and the key is there as soon as it can', async () => {
    await cpa.end();
    const added = await keys(['add']);
    expect(added).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('does not answer') });
    await cpa.restart();
    expect((await keys(['sync'])).exitCode).toBe(0);
    expect(await models(added.stdout.trim())).toBe(200);
  });

  test('an export can be imported again, and holds keys in clear only where that is said', async () => {
    const key = (await keys(['add', '--owner', 'me@example.com', '--term', '2030-01-01', '--quota', '5M tokens/month'])).stdout.trim();
    expect((await keys(['export'])).stdout).not.toContain(key);
    const file = join(temporaryDirectory('keys-export'), 'keys.json');
    expect((await keys(['export', '--with-keys', '--file', file])).exitCode).toBe(0);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, 'utf8')).toContain(key);
    const other = ['--workspace', temporaryDirectory('keys-other'), '--store', words[3] ?? ''];
    const imported = await runCommand(['keys', 'import', file, '--json', ...other]);
    expect(jsonOf(imported)).toMatchObject({
      imported: [{ owner_email: 'me@example.com', quota: '5000000 tokens per month', expires_at: '2030-01-01T00:00:00.000Z' }],
    });
    expect(jsonOf(await runCommand(['keys', 'import', file, '--json', ...other]))).toMatchObject({
      imported: [],
      left: [{ reason: expect.stringContaining('registered already') }],
    });
  });

  test('the database of cliproxy-access-manager is imported, as its driver writes it, and stays as it was', async () => {
    const file = join(temporaryDirectory('access-manager'), 'apim.db');
    const Libsql = createRequire(join(import.meta.dirname, '../../packages/database/package.json'))('libsql') as new (path: string) => {
      exec(sql: string): void;
      close(): void;
    };
    const theirs = new Libsql(file);
    theirs.exec(`CREATE TABLE api_keys (id INTEGER PRIMARY KEY AUTOINCREMENT, api_key TEXT NOT NULL UNIQUE, status TEXT NOT NULL DEFAULT 'active',
      expires_at DATETIME NULL, owner_email TEXT NOT NULL DEFAULT '', note TEXT NOT NULL DEFAULT '', created_by TEXT NOT NULL DEFAULT '',
      created_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP, updated_at DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP);
      INSERT INTO api_keys (api_key, status, expires_at, owner_email, note) VALUES
        ('sk-first-of-them-1234', 'active', '2030-03-01 00:00:00 +0000 UTC', 'A@example.com', 'first'),
        ('sk-second-of-them-1234', 'disabled', NULL, '', ''),
        ('sk-third-of-them-1234', 'active', '2020-03-01T00:00:00Z', 'c@example.com', ''),
        ('tiny', 'active', NULL, '', '');`);
    theirs.close();
    const result = jsonOf(await keys(['import', file, '--json']));
    expect(result).toMatchObject({
      imported: [
        { owner_email: 'a@example.com', state: 'valid', expires_at: '2030-03-01T00:00:00.000Z', note: 'first' },
        { state: 'disabled', expires_at: null },
        { state: 'expired' },
      ],
      left: [{ reason: expect.stringContaining('8 to 256') }],
    });
    expect([await models('sk-first-of-them-1234'), await models('sk-second-of-them-1234'), await models('sk-third-of-them-1234')]).toEqual([
      200, 401, 401,
    ]);
    expect(jsonOf(await runCommand(['keys', 'list', '--json', ...words], { APIM_DB_PATH: file }))).toMatchObject({ total: 0 });
    expect(jsonOf(await runCommand(['keys', 'import', file, '--json', ...words], { APIM_DB_PATH: file }))).toMatchObject({
      imported: { length: 3 },
    });
  });
});

describe('the HTTP API', () => {
  test('does what its document says, for every call that stands there', async () => {
    await run({ TOKENMIRROR_USAGE: 'yes' });
    await until('the ledger is open', async () => {
      await delay(200);
      return (await http('GET', '/usage/top')).status === 200;
    });
    const { json: document } = await http('GET', '/openapi.json');
    const paths = document['paths'] as Record<
      string,
      Record<string, { responses: Record<string, { content?: Record<string, { schema: object }> }> }>
    >;
    const ajv = new Ajv({ strict: false });
    addFormats.default(ajv);
    const tried = new Set<string>();
    const call = async (method: string, path: string, body?: unknown): Promise<{ status: number; json: Record<string, unknown> }> => {
      const answer = await http(method, path, body);
      const name = path.replace(/\?.*/, '');
      const told = paths[name]?.[method.toLowerCase()];
      if (told === undefined) throw new Error(`${method} ${name} is not documented`);
      tried.add(`${method.toLowerCase()} ${name}`);
      const responses = told.responses;
      const described =
        responses[String(answer.status)] ??
        responses[`${String(answer.status).slice(0, 1)}XX`] ??
        responses[`${String(answer.status).slice(0, 1)}xx`];
      const schema = described?.content?.['application/json']?.schema;
      if (schema !== undefined && !ajv.validate(schema, answer.json))
        throw new Error(`${method} ${name} ${String(answer.status)}: ${ajv.errorsText()} in ${JSON.stringify(answer.json)}`);
      return answer;
    };
    for (const path of ['/livez', '/healthz', '/readyz', '/status', '/openapi.json']) expect((await call('GET', path)).status).toBe(200);
    tried.add('get /metrics');
    const made = await call('POST', '/keys', { owner_email: 'me@example.com', ttl: '1h', labels: ['x'], quota: '10 requests per hour' });
    expect(made).toMatchObject({ status: 201, json: { item: { owner_email: 'me@example.com' }, targets: [{ status: 'synced' }] } });
    const key = String(made.json['key']);
    const { id } = made.json['item'] as { id: string };
    for (const file of ['companions.db', 'companions.db.secret'])
      expect([file, statSync(join(workspace, '.tokenmirror', file)).mode & 0o777]).toEqual([file, 0o600]);
    expect(await models(key)).toBe(200);
    expect((await call('GET', '/keys?filter=active&limit=1')).json).toMatchObject({ total: 1, items: [{ id }] });
    expect((await call('PATCH', '/keys/status', { key: id, status: 'disabled' })).json).toMatchObject({
      ok: true,
      item: { state: 'disabled' },
    });
    expect(await models(key)).toBe(401);
    await call('PATCH', '/keys/status', { key, status: 'active' });
    expect(await models(key)).toBe(200);
    expect((await call('PATCH', '/keys/expiry', { key: id, expires_at: '2030-01-01T00:00:00Z' })).json).toMatchObject({
      item: { expires_at: '2030-01-01T00:00:00.000Z' },
    });
    expect((await call('PATCH', '/keys/expiry', { key: id, expires_at: null })).json).toMatchObject({ item: { expires_at: null } });
    expect((await call('GET', '/account/query?email=ME@example.com&since=24h')).json).toMatchObject({
      item: { email: 'me@example.com', keys: [{ id }] },
    });
    expect((await call('POST', '/recharge/request', { email: 'me@example.com', note: 'more please' })).status).toBe(202);
    expect(JSON.stringify((await call('GET', '/status')).json['alarms'])).toContain('me@example.com asks for more: more please');
    expect((await call('POST', '/sync_now')).json).toMatchObject({ ok: true });
    expect((await call('GET', '/usage/top?since=7d&by=model')).json).toMatchObject({ items: [] });
    expect((await call('GET', `/usage/key?key=${id}`)).json).toMatchObject({ item: { key_id: id, requests: 0 } });
    expect((await call('GET', '/usage/timeline?by=day')).json).toMatchObject({ items: [] });
    expect((await call('DELETE', '/keys', { key: id })).status).toBe(200);
    expect(await models(key)).toBe(401);
    const audit = await call('GET', '/keys/audit?limit=500');
    expect(JSON.stringify(audit.json)).not.toContain(key);
    expect((audit.json['items'] as { action: string }[]).map(({ action }) => action)).toEqual(
      expect.arrayContaining(['add', 'delete', 'enable']),
    );
    await call('POST', '/keys', { owner_email: 'soon@example.com', ttl: '1h' });
    await until('its end is told of', async () => {
      await delay(300);
      return JSON.stringify((await http('GET', '/status')).json['alarms']).includes('of soon@example.com) expires at');
    });
    for (const [status, method, path, body] of [
      [404, 'DELETE', `/keys?key=${id}`],
      [400, 'DELETE', '/keys'],
      [400, 'POST', '/keys', { ttl: 'someday' }],
      [400, 'POST', '/keys', { unknown: 1 }],
      [400, 'GET', '/keys?filter=odd'],
      [400, 'PATCH', '/keys/expiry', { key: id }],
      [400, 'GET', '/usage/top?since=someday'],
      [400, 'GET', '/usage/key'],
      [409, 'POST', '/keys', { key: String((await call('POST', '/keys', { ttl: '1h' })).json['key']) }],
    ] as const)
      expect([method, path, (await call(method, path, body)).status]).toEqual([method, path, status]);
    expect(await call('POST', '/usage/sync_now')).toMatchObject({ status: 200, json: { ok: true } });
    const documented = Object.entries(paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method} ${path}`));
    expect(documented.filter((each) => !tried.has(each) && !each.startsWith('head '))).toEqual([]);
  });

  test('takes the token in both headers, limits bodies and requests, and shows nothing without the token', async () => {
    await run({ APIM_HTTP_AUTH_TOKEN: TOKEN });
    for (const headers of [{ authorization: `Bearer ${TOKEN}` }, { 'x-apim-token': TOKEN }])
      expect((await http('GET', '/keys', undefined, headers)).status).toBe(200);
    for (const [method, path] of [
      ['GET', '/keys'],
      ['POST', '/keys'],
      ['POST', '/sync_now'],
      ['GET', '/openapi.json'],
    ] as const)
      expect(await http(method, path)).toMatchObject({ status: 401, json: { error: { code: 'UNAUTHORIZED' } } });
    expect((await http('GET', '/healthz')).status).toBe(200);
    const large = { note: 'x'.repeat(100_000) };
    expect(await http('POST', '/keys', large, { 'x-apim-token': TOKEN })).toMatchObject({
      status: 413,
      json: { error: { code: 'BODY_TOO_LARGE' } },
    });
    expect(await http('POST', '/keys', '{"broken', { 'x-apim-token': TOKEN })).toMatchObject({ status: 400 });
    const statuses = new Set<number>();
    for (let n = 0; n < 310; n += 1) statuses.add((await http('GET', '/keys', undefined, { 'x-apim-token': `guess ${String(n)}` })).status);
    expect([...statuses]).toEqual([401, 429]);
    expect((await http('GET', '/healthz')).status).toBe(200);
  });

  test('answers no page of somebody else in a browser of this machine', async () => {
    await run();
    expect((await http('GET', '/keys', undefined, { origin: 'http://evil.example' })).status).toBe(403);
    expect((await cpa.http('GET', '/')).status).toBe(200);
    const rebound = await new Promise<number>((resolve) => {
      request({ host: '127.0.0.1', port, path: '/keys', headers: { host: 'evil.example' } }, ({ statusCode = 0 }) => {
        resolve(statusCode);
      }).end();
    });
    expect(rebound).toBe(403);
  });

  test('says that there are no keys to keep where no management key was given', async () => {
    await run({ CLIPROXY_MGMT_KEY: '' });
    expect(await http('GET', '/keys')).toMatchObject({
      status: 503,
      json: { error: { remedy: expect.stringContaining('CLIPROXY_MGMT_KEY') } },
    });
  });
});

test('settings of the companions that cannot be used cost nothing but the companions', async () => {
  const one = await run({ TOKENMIRROR_KEY_TARGETS: 'http://127.0.0.1:1', TOKENMIRROR_KEY_TARGET_KEYS: 'one,two' });
  await until('it is told', () => one.logged('keys-unavailable'));
  expect((await http('GET', '/readyz')).status).toBe(200);
  expect((await http('GET', '/keys')).status).toBe(200);
  expect(JSON.stringify((await http('GET', '/status')).json['alarms'])).toContain('keys-unavailable');
  expect(await one.stop()).toBe(0);
});

test('a second CLIProxyAPI gets the same keys, by its own management key', async () => {
  const second = new CliProxyProcess({ flavour: '6.9', workspace: temporaryDirectory('keys-second') });
  second.port = 0;
  await second.start();
  await second.end();
  await second.start(second.configText('', 'the key of the second'));
  const one = await run({
    TOKENMIRROR_KEY_TARGETS: `http://127.0.0.1:${String(second.port)}`,
    TOKENMIRROR_KEY_TARGET_KEYS: 'the key of the second',
  });
  const key = (await keys(['add', '--term', '5s'])).stdout.trim();
  const at = async (of: CliProxyProcess): Promise<number> =>
    (await of.http('GET', '/v1/models', { authorization: `Bearer ${key}` })).status;
  await until('it is let in at both', async () => (await at(cpa)) === 200 && (await at(second)) === 200);
  await until('it is kept out at both', async () => (await at(cpa)) === 401 && (await at(second)) === 401);
  expect(one.output).not.toContain('the key of the second');
  await second.end('SIGKILL');
});

test('a made key is shown although it cannot be applied', async () => {
  const added = await keys(['add'], {
    CLIPROXY_MGMT_KEY: MANAGEMENT_KEY,
    TOKENMIRROR_KEY_TARGETS: 'http://127.0.0.1:1',
    TOKENMIRROR_KEY_TARGET_KEYS: 'one,two',
  });
  expect(added.exitCode).toBe(1);
  expect(added.stdout).toMatch(/^sk-key-/);
});

test('a bot obeys its users, and a key made in a chat is let in', async () => {
  const telegram = await TelegramServer.start();
  try {
    const one = await run({ TELEGRAM_BOT_TOKEN: telegram.token, TELEGRAM_ALLOWED_USER_IDS: '7', TOKENMIRROR_TELEGRAM_API: telegram.url });
    await until('it listens', () => one.logged('telegram-listening'));
    telegram.say('/key_add me@example.com 1h');
    await until('it answers', () => telegram.sent.length > 0);
    const key = telegram.sent[0]?.text.split('\n')[0] ?? '';
    expect(await models(key)).toBe(200);
    telegram.say('/status');
    await until('it says how it is', () => telegram.sent.some(({ text }) => text.includes('keys in sync')));
    expect(one.output).not.toContain(telegram.token);
    expect(await one.stop()).toBe(0);
  } finally {
    await telegram.stop();
  }
});

describe('what went wrong elsewhere', () => {
  test('incident 29: the keys of an operator stay when a fresh registry comes, and the end of the last key opens nothing', async () => {
    const one = await run();
    const { ms } = { ms: 4 };
    const added = await keys(['add', '--term', `${String(ms)}s`]);
    expect([await models(API_KEY), await models(added.stdout.trim())]).toEqual([200, 200]);
    await until('it has ended', async () => (await models(added.stdout.trim())) === 401);
    expect(await models(API_KEY)).toBe(200);
    await keys(['adopt', '--term', '3s']);
    const seen = new Set<number>();
    await until('the last one has ended', async () => {
      seen.add(await models());
      return (await models(API_KEY)) === 401;
    });
    expect([...seen, await models()]).toEqual([401, 401]);
    expect(one.logged('cliproxy-open')).toBe(false);
  });

  test('incident 31: a wrong management key is tried once, by the keys, the watch and the channel together, and after a restart not at all', async () => {
    await keys(['add']);
    await cpa.end();
    await cpa.start(cpa.configText('', 'another secret altogether'));
    const one = await run({ TOKENMIRROR_KEY_SYNC_INTERVAL: '200ms' });
    await until('it is told', () => one.logged('keys-not-synced'));
    for (let n = 0; n < 3; n += 1) await http('POST', '/sync_now');
    expect((await http('GET', '/status')).json['alarms']).toContainEqual(
      expect.objectContaining({ kind: 'keys-not-synced', severity: 'critical' }),
    );
    await one.stop();
    await run();
    for (let n = 0; n < 3; n += 1) expect((await cpa.manage('GET', '/api-keys', undefined, 'a second guess')).status).toBe(401);
    expect((await cpa.manage('GET', '/api-keys', undefined, 'another secret altogether')).status).toBe(200);
  });
});
