import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  credential,
  DaemonProcess,
  freePort,
  runCommand,
  temporaryDirectory,
  until,
} from '@tokenmirror/testkit';

const NAME = 'claude-me@example.com.json';
const TOKEN = 'a-bearer-token-for-tests';

let workspace: string;
let store: string;
let port: number;
let daemons: DaemonProcess[];

beforeEach(async () => {
  workspace = temporaryDirectory('operations');
  store = join(temporaryDirectory('operations-store'), 'store');
  port = await freePort();
  daemons = [];
});

afterEach(async () => {
  for (const daemon of daemons) await daemon.kill();
});

afterAll(cleanTemporaryDirectories);

function daemon(environment: Readonly<Record<string, string>> = {}, args: readonly string[] = []): DaemonProcess {
  const made = new DaemonProcess(workspace, ['--store', pathToFileURL(store).href, ...args], {
    TOKENMIRROR_HTTP_LISTEN: `127.0.0.1:${String(port)}`,
    ...environment,
  });
  daemons.push(made);
  return made;
}

async function get(path: string, headers: Readonly<Record<string, string>> = {}): Promise<{ status: number; text: string }> {
  const answer = await fetch(`http://127.0.0.1:${String(port)}${path}`, { headers });
  return { status: answer.status, text: await answer.text() };
}

const reasonsOf = ({ text }: { text: string }): string => JSON.stringify((JSON.parse(text) as { reasons: unknown }).reasons);

describe('over HTTP', () => {
  test('a daemon says that it lives, that it is ready, how it is, and what it measured', async () => {
    const one = daemon();
    writeFileSync(join(one.authDir, NAME), credential());
    await one.start();
    expect(await get('/livez')).toEqual({ status: 200, text: '{"status":"alive"}' });
    expect(await get('/readyz')).toEqual({ status: 200, text: '{"status":"ready","reasons":[]}' });
    await until('it counts', async () => (await get('/metrics')).text.includes('tokenmirror_documents 1'));
    const { text } = await get('/metrics');
    expect(text).toContain('tokenmirror_ready 1');
    expect(text).toMatch(/tokenmirror_credential_expiry_timestamp_seconds\{credential="claude-m\*\*\*@example\.com#[0-9a-f]{4}"\} \d+/);
    expect(text).toMatch(/tokenmirror_store_seconds_count\{operation="write"\} [1-9]/);
    expect(text).not.toContain('me@example.com');
    const status = JSON.parse((await get('/status')).text) as { health: unknown; report: { engine: { documents: number } } };
    expect(status).toMatchObject({ health: { state: 'ready' }, alarms: [], report: { engine: { documents: 1 } } });
    expect(await get('/nothing')).toMatchObject({ status: 404 });
    expect(await one.stop()).toBe(0);
  });

  test('with a token, only probes go without it', async () => {
    await daemon({ TOKENMIRROR_HTTP_TOKEN: TOKEN }).start();
    expect([(await get('/livez')).status, (await get('/readyz')).status]).toEqual([200, 200]);
    for (const path of ['/status', '/metrics', '/nothing']) expect([path, (await get(path)).status]).toEqual([path, 401]);
    expect((await get('/status', { authorization: 'Bearer wrong' })).status).toBe(401);
    expect((await get('/status', { authorization: `Bearer ${TOKEN}` })).status).toBe(200);
    expect((await get('/metrics', { 'x-apim-token': TOKEN })).status).toBe(200);
  });

  test('an address that others can reach is refused without a token', async () => {
    const { exitCode, stderr } = await runCommand(['run', '--workspace', workspace, '--store', pathToFileURL(store).href], {
      TOKENMIRROR_HTTP_LISTEN: `0.0.0.0:${String(port)}`,
    });
    expect(exitCode).toBe(2);
    expect(stderr).toContain('http-token');
  });

  test('a port that is taken is told, and everything else goes on', async () => {
    const taken = createServer().listen(port, '127.0.0.1');
    const one = daemon();
    await one.start();
    expect(one.logged('http-unavailable')).toBe(true);
    taken.close();
  });

  test('incident 16: a backup that cannot be written shows in the metrics, in the status, in the exit code, and to doctor', async () => {
    const environment = { TOKENMIRROR_MIRRORS: `postgres://user:secret@127.0.0.1:${String(await freePort())}/none` };
    const one = daemon(environment);
    writeFileSync(join(one.authDir, NAME), credential());
    await one.start();
    await until('it shows in the metrics', async () => /tokenmirror_mirror_up\{mirror="[^"]*"\} 0/.test((await get('/metrics')).text));
    const words = ['--json', '--workspace', workspace, '--store', pathToFileURL(store).href];
    const status = await runCommand(['status', ...words], environment);
    expect({ code: status.exitCode, ...(JSON.parse(status.stdout) as object) }).toMatchObject({ code: 1, mirrors: [{ reachable: false }] });
    const doctor = await runCommand(['doctor', ...words], environment);
    expect(doctor.exitCode).toBe(1);
    expect(JSON.parse(doctor.stdout)).toContainEqual(
      expect.objectContaining({ check: expect.stringMatching(/^mirror /), status: 'failed' }),
    );
    expect((await runCommand(['sync', ...words, '--state-dir', temporaryDirectory('operations-state')], environment)).exitCode).not.toBe(0);
  });

  test('a workspace that is gone is not ready, and says what to do', async () => {
    const one = daemon({}, ['--sweep-interval', '1s']);
    writeFileSync(join(one.authDir, NAME), credential());
    await one.start();
    rmSync(one.authDir, { recursive: true });
    await until('it is not ready', async () => (await get('/readyz')).status === 503);
    expect(reasonsOf(await get('/readyz'))).toContain('Put it back');
    mkdirSync(one.authDir);
    await until('it is ready again', async () => (await get('/readyz')).status === 200);
  });
});

test('a config with a port that cannot be costs nothing but the look at CLIProxyAPI', async () => {
  const one = daemon({ CLIPROXY_MGMT_KEY: 'a-key-for-tests' });
  writeFileSync(one.configFile, 'host: "::1%lo0"\nport: 70000\napi-keys:\n  - sk-for-tests\n');
  await one.start();
  writeFileSync(join(one.authDir, NAME), credential());
  await until('it goes on', () => existsSync(join(store, 'auths', NAME)));
  expect(await one.stop()).toBe(0);
});

test('SIGHUP takes over what can be changed while it runs, and says what cannot; settings that are wrong change nothing', async () => {
  const file = join(temporaryDirectory('operations-environment'), 'environment');
  writeFileSync(file, '');
  const one = daemon({ TOKENMIRROR_ENVIRONMENT_FILE: file });
  await one.start();
  writeFileSync(file, 'TOKENMIRROR_LOG_LEVEL=warn\nTOKENMIRROR_POLL_INTERVAL=nonsense\n');
  process.kill(one.pid, 'SIGHUP');
  await until('it says that they are wrong', () => one.logged('reload-failed'));
  writeFileSync(file, 'TOKENMIRROR_LOG_LEVEL=debug\nTOKENMIRROR_POLL_INTERVAL=11s\nTOKENMIRROR_ALARM_OUTAGE_AFTER=1m\n');
  process.kill(one.pid, 'SIGHUP');
  await until('it is reloaded', () => one.logged('reloaded'));
  expect(one.log.find(({ msg }) => msg === 'reloaded')).toMatchObject({ needRestart: ['poll-interval'] });
  expect(await one.stop()).toBe(0);
});

describe('a start while the authority is out of reach', () => {
  test('fills an empty workspace from a mirror, without refresh tokens, and counts as ready', async () => {
    const mirror = join(temporaryDirectory('operations-mirror'), 'mirror');
    const source = daemon({}, ['--store', pathToFileURL(mirror).href]);
    writeFileSync(join(source.authDir, NAME), credential());
    await source.start();
    await source.stop();
    rmSync(workspace, { recursive: true });
    const nowhere = `postgres://user:password-of-tests@127.0.0.1:${String(await freePort())}/none`;
    const one = daemon(
      {
        TOKENMIRROR_MIRRORS: pathToFileURL(mirror).href,
        PGSTORE_DSN: nowhere,
        TOKENMIRROR_START_DEGRADED_AFTER: '3s',
        TOKENMIRROR_ALARM_OUTAGE_AFTER: '10ms',
      },
      ['--store', 'postgres'],
    );
    one.launch();
    await until('it says what it waits for', async () => {
      const answer = await get('/readyz').catch(() => undefined);
      return answer?.status === 503 && reasonsOf(answer) !== '[]';
    });
    await until('it alarms while it waits', async () => {
      const { text } = await get('/metrics');
      return text.includes('tokenmirror_alarms{kind="authority-unreachable"} 1') && text.includes('tokenmirror_authority_up 0');
    });
    await until('it is ready', async () => (await get('/readyz')).status === 200);
    expect(JSON.parse((await get('/readyz')).text)).toMatchObject({ status: 'degraded' });
    const filled = JSON.parse(readFileSync(join(one.authDir, NAME), 'utf8')) as Record<string, unknown>;
    expect(filled['access_token']).toBeDefined();
    expect(filled['refresh_token']).toBeUndefined();
    expect(one.output).not.toContain('password-of-tests');
    await one.stop();
  });
});

describe('a webhook', () => {
  let server: Server;
  let received: { path: string; body: Record<string, unknown> }[];

  beforeEach(async () => {
    received = [];
    server = createServer((request, response) => {
      let body = '';
      request.on('data', (data: Buffer) => (body += data.toString()));
      request.on('end', () => {
        received.push({ path: request.url ?? '', body: JSON.parse(body) as Record<string, unknown> });
        response.statusCode = received.length === 1 ? 500 : 200;
        response.end();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });

  afterEach(() => {
    server.close();
    server.closeAllConnections();
  });

  test.each(['json', 'slack'])('is told once of what goes wrong and once of its end, in %s, again where it failed', async (format) => {
    const secret = 'a-secret-path-of-a-webhook';
    const one = daemon(
      {
        TOKENMIRROR_NOTIFY_URL: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/${secret}`,
        TOKENMIRROR_NOTIFY_FORMAT: format,
      },
      ['--sweep-interval', '1s'],
    );
    await one.start();
    writeFileSync(join(one.authDir, NAME), '{"broken');
    await until('it is told', () => received.length === 2);
    const told = JSON.stringify(received[1]?.body);
    expect(told).toContain('cannot be replicated');
    expect(received[0]?.body).toMatchObject(
      format === 'json' ? { source: 'tokenmirror', alarms: [{ kind: 'documents-refused', status: 'raised' }] } : {},
    );
    writeFileSync(join(one.authDir, NAME), credential());
    await until('its end is told', () => received.length === 3);
    expect(JSON.stringify(received[2]?.body)).toContain('recovered');
    expect(one.output).not.toContain(secret);
    expect(existsSync(join(store, 'auths', NAME))).toBe(true);
  });
});
