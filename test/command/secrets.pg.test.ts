import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { redactionOf } from '@tokenmirror/service';
import {
  cleanTemporaryDirectories,
  credential,
  DaemonProcess,
  freePort,
  runCommand,
  temporaryDirectory,
  until,
} from '@tokenmirror/testkit';
import { STORE_PLACES, type StoreKind } from '../store-places.js';

const NAME = 'claude-me@example.com.json';
const API_KEY = 'sk-client-key-that-nobody-may-see';

/** Secrets of every option that has one. */
const SECRETS = {
  TOKENMIRROR_HTTP_TOKEN: 'http-token-that-nobody-may-see',
  CLIPROXY_MGMT_KEY: 'management-key-that-nobody-may-see',
} as const;

let webhook: Server;
let posted: string;
let daemons: DaemonProcess[];

beforeEach(async () => {
  posted = '';
  daemons = [];
  webhook = createServer((request, response) => {
    request.on('data', (data: Buffer) => (posted += data.toString()));
    request.on('end', () => {
      response.end();
    });
  });
  await new Promise<void>((resolve) => webhook.listen(0, '127.0.0.1', resolve));
});

afterEach(async () => {
  for (const daemon of daemons) await daemon.kill();
  webhook.close();
  webhook.closeAllConnections();
});

afterAll(cleanTemporaryDirectories);

describe.each<StoreKind>(['filesystem', 'postgres', 's3', 'git'])('nothing that comes out of a daemon on %s holds a secret', (kind) => {
  test.each(['that works', 'that is refused'])('with a store %s', async (how) => {
    const place = await STORE_PLACES[kind]();
    const key = (await runCommand(['encryption', 'generate-key'])).stdout.trim();
    const hook = 'webhook-path-that-nobody-may-see';
    const port = await freePort();
    const wrong: Record<string, string> = {
      PGSTORE_DSN: (place.environment['PGSTORE_DSN'] ?? '').replace(/:\/\/[^@]*@/, '://nobody:password-that-nobody-may-see@'),
      OBJECTSTORE_SECRET_KEY: 'secret-key-that-nobody-may-see',
      GITSTORE_GIT_TOKEN: 'git-token-that-nobody-may-see',
    };
    const used = Object.entries(wrong).filter(([name]) => how === 'that is refused' && name in place.environment);
    const environment = {
      ...place.environment,
      ...SECRETS,
      ...Object.fromEntries(used),
      TOKENMIRROR_HTTP_LISTEN: `127.0.0.1:${String(port)}`,
      TOKENMIRROR_NOTIFY_URL: `http://127.0.0.1:${String((webhook.address() as AddressInfo).port)}/${hook}`,
      TOKENMIRROR_ENCRYPTION_KEYS: key,
      TOKENMIRROR_ALARM_OUTAGE_AFTER: '10ms',
    };
    const daemon = new DaemonProcess(temporaryDirectory('secrets'), ['--log-level', 'debug', '--sweep-interval', '1s'], environment);
    daemons.push(daemon);
    const text = credential();
    const grant = JSON.parse(text) as Record<string, string>;
    writeFileSync(join(daemon.authDir, NAME), text);
    writeFileSync(join(daemon.authDir, 'broken.json'), `{"access_token": "${grant['access_token'] ?? ''}"`);
    writeFileSync(
      daemon.configFile,
      `port: ${String(await freePort())}\nremote-management:\n  secret-key: hashed\napi-keys:\n  - ${API_KEY}\n`,
    );
    daemon.launch();
    await until('it listens, or has ended', () => daemon.logged('http-listening') || !daemon.isRunning);
    await until(
      'it is ready, has ended, or tells that it waits',
      () => daemon.logged('ready') || !daemon.isRunning || daemon.logged('store-unreachable'),
    );
    let served = '';
    if (daemon.isRunning)
      for (const path of ['/livez', '/readyz', '/status', '/metrics'])
        served += await (
          await fetch(`http://127.0.0.1:${String(port)}${path}`, { headers: { authorization: `Bearer ${SECRETS.TOKENMIRROR_HTTP_TOKEN}` } })
        ).text();
    if (how === 'that works') await until('the webhook was told', () => posted !== '');
    let commands = '';
    for (const words of [
      ['status'],
      ['status', '--json'],
      ['diff'],
      ['verify'],
      ['history', 'claude-me@example.com'],
      ['custody', 'status'],
      ['replicas', 'list'],
      ['encryption', 'status'],
    ]) {
      const { stdout, stderr } = await runCommand([...words, '--workspace', daemon.workspace], environment);
      commands += stdout + stderr;
    }
    await daemon.end('SIGTERM');
    const state = filesBelow(join(daemon.workspace, '.tokenmirror'));
    const all = daemon.output + served + posted + commands + state;
    const secrets = [
      ...Object.values(SECRETS),
      ...used.map(([, value]) => /password-that-nobody-may-see/.exec(value)?.[0] ?? value),
      hook,
      key.split(':')[1] ?? '',
      API_KEY,
      grant['access_token'] ?? '',
      grant['refresh_token'] ?? '',
    ];
    for (const secret of secrets)
      expect({ secret, where: all.split(secret).length > 1 ? around(all, secret) : '' }).toEqual({ secret, where: '' });
    await place.destroy();
  });
});

function around(text: string, secret: string): string {
  const at = text.indexOf(secret);
  return text.slice(Math.max(0, at - 100), at + 10);
}

function filesBelow(directory: string): string {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => join(directory, name))
    .filter((path) => statSync(path).isFile())
    .map((path) => readFileSync(path, 'utf8'))
    .join('\n');
}

describe('redaction', () => {
  const settings = {
    'pg-dsn': "host=db user='u' password='p4ss w0rd' dbname=d",
    'http-token': 'a "quoted" token \\ with everything',
    'notify-url': 'https://hooks.example.com/services/T000/B000/XXXXXXXX',
  };
  const redact = redactionOf(settings);

  test('takes secrets of the settings out of any text, in any spelling', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.constantFrom(...Object.values(settings)), (before, after, secret) => {
        for (const spelling of [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret)])
          expect(redact(before + spelling + after)).not.toContain(spelling);
      }),
    );
  });

  test('survives secrets that are no valid encoding, or no valid text', () => {
    for (const secret of ['postgres://u:100%@db/x', 'postgres://u:%E0%A4%A@db/x', 'half a \ud800 pair'])
      expect(redactionOf({ 'pg-dsn': secret })(`before ${secret} after`)).not.toContain(secret);
  });

  test.each([
    'postgres://user:a-password@db/name',
    'https://x-access-token:ghp_0123456789abcdef@github.com/o/r',
    'Authorization: Bearer abcdefghijklmnop',
    'sk-ant-ort01-abcdefghijklmnop',
    'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.sflKxwRJSMeKKF2QT4f',
    '{"refresh_token": "1//0abcdefghijklmnopqrstuv"}',
  ])('takes out what looks like one: %s', (text) => {
    const shown = redact(text);
    expect(shown).toContain('••••••');
    for (const secret of ['a-password', 'ghp_0123456789abcdef', 'abcdefghijklmnop', 'eyJzdWIiOiIxMjM0NTY3ODkwIn0'])
      expect(shown).not.toContain(secret);
  });

  test.each([
    'auths/claude-me@example.com.json',
    'postgres://db.example/cliproxy (schema public)',
    'it is refreshed at 2026-11-22T00:00:00Z',
    'file:///var/lib/tokenmirror',
  ])('leaves alone what is none: %s', (text) => {
    expect(redact(text)).toBe(text);
  });
});
