import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  CliProxyProcess,
  credential,
  MANAGEMENT_KEY,
  runCommand,
  temporaryDirectory,
} from '@tokenmirror/testkit';
import { STORE_PLACES, type StoreKind, type StorePlace } from '../store-places.js';

interface Finding {
  readonly check: string;
  readonly status: string;
  readonly message: string;
  readonly remedy?: string;
}

let workspace: string;
let place: StorePlace;
let cpa: CliProxyProcess;

async function findings(
  environment: Readonly<Record<string, string>> = {},
): Promise<{ exitCode: number; of: (check: string) => Finding[] }> {
  const { exitCode, stdout, stderr } = await runCommand(['doctor', '--json', '--workspace', workspace], {
    ...place.environment,
    ...environment,
  });
  expect(stderr).toBe('');
  const all = JSON.parse(stdout) as Finding[];
  for (const { status, remedy } of all) if (status === 'attention' || status === 'failed') expect(remedy).toMatch(/\w/);
  return { exitCode, of: (check) => all.filter((each) => each.check === check) };
}

const put = (name: string, more: object = {}): void => {
  writeFileSync(join(workspace, 'auths', name), JSON.stringify({ ...(JSON.parse(credential()) as object), ...more }), { mode: 0o600 });
};

beforeEach(async () => {
  place = await STORE_PLACES.postgres();
  workspace = temporaryDirectory('doctor');
  cpa = new CliProxyProcess({ flavour: '7.2', workspace });
  for (const directory of [workspace, join(workspace, 'auths')]) chmodSync(directory, 0o700);
});

afterEach(async () => {
  await cpa.end('SIGKILL');
  await place.destroy();
});

afterAll(cleanTemporaryDirectories);

test.each<StoreKind>(['filesystem', 'postgres', 's3', 'git'])(
  'on %s, all is well where it is, and the store is as it was',
  async (kind) => {
    await place.destroy();
    place = await STORE_PLACES[kind]();
    put('claude-a@example.com.json');
    await cpa.start();
    chmodSync(cpa.configFile, 0o600);
    expect((await runCommand(['sync', '--workspace', workspace], place.environment)).exitCode).toBe(0);
    const documents = await place.documents();
    const { exitCode, of } = await findings({ CLIPROXY_MGMT_KEY: MANAGEMENT_KEY });
    for (const check of [
      'authority',
      'authority writes',
      'auth directory',
      'config',
      'credentials',
      'CLIProxyAPI',
      'management key',
      'own store',
    ])
      expect(of(check)).toMatchObject([{ check, status: 'ok' }]);
    expect(of('management key')[0]?.message).toContain('7.2.140');
    expect(of('daemon')).toMatchObject([{ status: 'attention' }]);
    expect(exitCode).toBe(1);
    expect(await place.documents()).toEqual(documents);
  },
);

describe('it finds', () => {
  test('files that others can read', async () => {
    put('claude-a@example.com.json');
    chmodSync(join(workspace, 'auths', 'claude-a@example.com.json'), 0o644);
    expect((await findings()).of('credentials')).toMatchObject([{ status: 'attention', message: expect.stringContaining('other users') }]);
  });

  test('one account under two names, and one refresh token in two files', async () => {
    put('claude-a@example.com.json', { email: 'a@example.com' });
    put('claude-old.json', { email: 'a@example.com', refresh_token: 'another' });
    put('codex-1.json', { type: 'codex', email: 'b@example.com', refresh_token: 'same' });
    put('codex-2.json', { type: 'codex', email: 'c@example.com', refresh_token: 'same' });
    const messages = (await findings()).of('credentials').map(({ message }) => message);
    expect(messages.sort()).toEqual([
      'claude-a@example.com.json, claude-old.json are of the same account',
      'codex-1.json, codex-2.json hold the same refresh token',
    ]);
  });

  test('a wrong management key, which it tries once, also when it is run again', async () => {
    await cpa.start();
    for (let n = 0; n < 3; n += 1)
      expect((await findings({ CLIPROXY_MGMT_KEY: 'wrong' })).of('management key')).toMatchObject([{ status: 'failed' }]);
    let failures = 0;
    while ((await cpa.manage('GET', '/api-keys', undefined, 'another wrong one')).status === 401) failures += 1;
    expect(failures).toBe(4);
  });

  test('a proxy that serves everyone', async () => {
    await cpa.start();
    await cpa.manage('PUT', '/api-keys', []);
    expect((await findings()).of('CLIProxyAPI keys')).toMatchObject([{ status: 'failed' }]);
  });

  test('a store that is out of reach', async () => {
    expect((await findings({ PGSTORE_DSN: 'postgres://u:secret-of-tests@127.0.0.1:1/none' })).of('authority')).toMatchObject([
      { status: 'failed' },
    ]);
  });

  test('a workspace that is the copy of a remote store of CLIProxyAPI', async () => {
    workspace = join(temporaryDirectory('doctor'), 'pgstore');
    mkdirSync(join(workspace, 'auths'), { recursive: true, mode: 0o700 });
    expect((await findings()).of('own store')).toContainEqual(
      expect.objectContaining({ status: 'failed', message: expect.stringContaining('pgstore') }),
    );
  });

  test('a CLIProxyAPI that runs on a remote store of its own, without showing where', async () => {
    const child = spawn(process.execPath, ['-e', 'setTimeout(() => undefined, 60000)'], {
      argv0: '/usr/local/bin/cli-proxy-api',
      env: { PGSTORE_DSN: 'postgres://u:secret-of-tests@db/x' },
      stdio: 'ignore',
    });
    try {
      await new Promise((resolve) => child.once('spawn', resolve));
      const [finding] = (await findings()).of('own store');
      if (process.platform !== 'linux') expect(finding).toMatchObject({ status: 'skipped' });
      else
        expect(finding).toMatchObject({
          status: 'failed',
          message: `CLIProxyAPI (process ${String(child.pid)}) runs on a remote store of its own (PGSTORE_DSN)`,
        });
    } finally {
      child.kill('SIGKILL');
    }
  });
});
