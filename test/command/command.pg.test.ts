import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  createSchema,
  credential,
  readCredentials,
  runCommand,
  temporaryDirectory,
  UpstreamPostgres,
  type TestSchema,
} from '@tokenmirror/testkit';

let schema: TestSchema;
let environment: Record<string, string>;

beforeEach(async () => {
  schema = await createSchema();
  environment = { PGSTORE_DSN: schema.dsn, PGSTORE_SCHEMA: schema.schema };
});
afterEach(() => schema.destroy());
afterAll(cleanTemporaryDirectories);

function workspaceWith(files: Record<string, string>): string {
  const root = temporaryDirectory('command');
  for (const folder of ['auths', 'config']) mkdirSync(join(root, folder));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(root, name), text);
  return root;
}

const CONFIG = '# my config\nport: 8317\napi-keys:\n  - secret-api-key\n';

describe('migrate', () => {
  test('copies files to Postgres, reads them back, leaves the originals, and repeated changes nothing', async () => {
    const root = workspaceWith({
      'auths/claude-a.json': credential(),
      'auths/codex-b.json': credential({ type: 'codex' }),
      'auths/broken.json': '{"cut',
      'auths/x.json.tmp': 'x',
      'config/config.yaml': CONFIG,
    });
    const before = readdirSync(root, { recursive: true }).sort();
    const from = pathToFileURL(root).href;
    const dry = await runCommand(['migrate', '--from', from, '--to', 'postgres', '--dry-run'], environment);
    expect(dry.stdout).toContain('3 would be copied, 0 there already, 0 differ, 1 refused');
    expect(await schema.query('SELECT 1 FROM pg_tables WHERE schemaname = current_schema()')).toEqual([]);

    const first = await runCommand(['migrate', '--from', from, '--to', 'postgres'], environment);
    expect(first).toMatchObject({ exitCode: 1, stderr: '' });
    expect(first.stdout).toContain('3 copied and read back, 0 there already, 0 differ, 1 refused. The source is untouched.');
    expect(first.stdout).toMatch(/auths\/broken\.json\s+refused\s+it is not valid JSON/);
    const { credentials, config } = await new UpstreamPostgres(schema).boot();
    expect(credentials.get('claude-a.json')).toEqual(JSON.parse(readFileSync(join(root, 'auths/claude-a.json'), 'utf8')));
    expect(config).toBe(CONFIG);
    expect(readdirSync(root, { recursive: true }).sort()).toEqual(before);

    const again = await runCommand(['migrate', '--from', from, '--to', 'postgres', '--json'], environment);
    const { results } = JSON.parse(again.stdout) as { results: { result: string }[] };
    expect(results.map(({ result }) => result).sort()).toEqual(['refused', 'there', 'there', 'there']);
  });

  test('takes a bare auth directory, a workspace, and goes between any two stores', async () => {
    const bare = temporaryDirectory('bare');
    writeFileSync(join(bare, 'claude-a.json'), credential());
    expect((await runCommand(['migrate', '--from', pathToFileURL(bare).href, '--to', 'postgres'], environment)).exitCode).toBe(0);
    expect((await runCommand(['migrate', '--from', 'workspace', '--to', 'postgres', '--auth-dir', bare], environment)).stdout).toContain(
      '0 copied and read back, 1 there already',
    );
    const directory = join(temporaryDirectory('store'), 'new');
    const back = await runCommand(['migrate', '--from', 'postgres', '--to', pathToFileURL(directory).href], environment);
    expect(back.exitCode).toBe(0);
    expect(readCredentials(join(directory, 'auths'))).toEqual(readCredentials(bare));
  });

  test('leaves what the target has otherwise, and says so', async () => {
    const upstream = new UpstreamPostgres(schema);
    await upstream.install();
    const theirs = credential({ note: 'theirs' });
    await upstream.saveCredential('claude-a.json', theirs);
    const root = workspaceWith({ 'auths/claude-a.json': credential({ note: 'ours' }) });
    const result = await runCommand(['migrate', '--from', pathToFileURL(root).href, '--to', 'postgres'], environment);
    expect(result).toMatchObject({ exitCode: 1, stdout: expect.stringMatching(/claude-a\.json\s+differs/) });
    expect((await upstream.boot()).credentials.get('claude-a.json')).toEqual(JSON.parse(theirs));
  });

  test('refuses an empty source and the same store twice', async () => {
    const empty = await runCommand(['migrate', '--from', 'file:///no/such/directory', '--to', 'postgres'], environment);
    expect(empty).toMatchObject({ exitCode: 6, stderr: expect.stringContaining('there is nothing to copy') });
    const same = await runCommand(['migrate', '--from', 'postgres', '--to', 'postgres'], environment);
    expect(same).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('the same store') });
  });
});

describe('history and restore', () => {
  test('list, show masked, compare, and bring settings back while the grant in use stays', async () => {
    const old = credential({ note: 'old note', proxy_url: 'http://user:hunter2@proxy' });
    const root = workspaceWith({ 'auths/claude-a.json': old, 'config/config.yaml': CONFIG });
    const run = (...args: string[]) => runCommand([...args, '--workspace', root], environment);
    await run('sync');
    const newer = credential({ note: 'new note' });
    writeFileSync(join(root, 'auths/claude-a.json'), newer);
    await run('sync');
    const listed = await run('history', 'claude-a', '--json');
    const { versions } = JSON.parse(listed.stdout) as { versions: { id: string; reason: string }[] };
    expect(versions.map(({ reason }) => reason)).toEqual(['replaced']);
    const shown = await run('history', 'claude-a', '--show', versions[0]?.id ?? '');
    expect(shown.stdout).toMatch(/note\s+"old note"\s+differs/);
    for (const secret of ['sk-ant', 'hunter2']) expect(shown.stdout).not.toContain(secret);

    expect((await run('restore', 'claude-a')).stdout).toContain('restored from version');
    await run('sync');
    const now = readCredentials(join(root, 'auths'))['claude-a.json'] as Record<string, unknown>;
    expect(now).toMatchObject({ note: 'old note', access_token: (JSON.parse(newer) as { access_token: string }).access_token });
    expect(await run('restore', 'claude-a', '--grant', '--yes', '--to', versions[0]?.id ?? '')).toMatchObject({
      exitCode: 6,
      stderr: expect.stringContaining('GRANT_ALIVE'),
    });
    expect(await run('restore', 'claude-a', '--grant')).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('--yes') });
    expect((await run('restore', 'nothing-like-it')).exitCode).toBe(6);
  });

  test('a deleted document comes back whole', async () => {
    const text = credential();
    const root = workspaceWith({ 'auths/claude-a.json': text, 'auths/claude-b.json': credential(), 'auths/claude-c.json': credential() });
    const run = (...args: string[]) => runCommand([...args, '--workspace', root], environment);
    await run('sync');
    const { rmSync } = await import('node:fs');
    rmSync(join(root, 'auths/claude-a.json'));
    await run('sync');
    expect(await run('history', 'claude-a')).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('is deleted in the store') });
    expect((await run('restore', 'claude-a')).exitCode).toBe(0);
    await run('sync');
    expect(readCredentials(join(root, 'auths'))['claude-a.json']).toEqual(JSON.parse(text));
  });
});

describe('looking', () => {
  test('diff tells what a pass would do and changes nothing; verify and status tell what is', async () => {
    const root = workspaceWith({ 'auths/claude-a.json': credential(), 'config/config.yaml': CONFIG });
    const run = (...args: string[]) => runCommand([...args, '--workspace', root], environment);
    const before = readdirSync(root, { recursive: true }).sort();
    expect(await run('diff')).toMatchObject({ exitCode: 1, stdout: expect.stringMatching(/push\s+auths\/claude-a\.json\s+new here/) });
    expect(await run('verify')).toMatchObject({ exitCode: 1, stdout: expect.stringMatching(/workspace +auths.claude-a.json +only here/) });
    expect((await run('status')).stdout).toContain('not running');
    expect(readdirSync(root, { recursive: true }).sort()).toEqual(before);
    expect(await schema.query('SELECT 1 FROM pg_tables WHERE schemaname = current_schema()')).toEqual([]);

    await run('sync');
    expect(await run('diff')).toMatchObject({ exitCode: 0, stdout: 'A pass would do nothing.\n' });
    writeFileSync(join(root, 'auths/claude-a.json'), credential({ note: 'x' }));
    expect(JSON.parse((await run('diff', '--json')).stdout)).toEqual([
      { name: 'auths/claude-a.json', action: 'push', because: 'changed here', conflicts: [] },
    ]);
    expect(await run('verify')).toMatchObject({ exitCode: 1, stdout: expect.stringMatching(/claude-a\.json\s+differs\s+note, grant/) });
    const status = JSON.parse((await run('status', '--json')).stdout) as { credentials: unknown[] };
    expect(status.credentials).toMatchObject([{ name: 'claude-a.json', provider: 'claude', stored: true }]);
  });

  test('nothing that is printed holds a secret', async () => {
    const text = credential();
    const root = workspaceWith({ 'auths/claude-a.json': text, 'config/config.yaml': CONFIG });
    const dsn = new URL(schema.dsn);
    dsn.password = 'the-database-password';
    const env = { ...environment, PGSTORE_DSN: dsn.href };
    const { access_token: access, refresh_token: refresh } = JSON.parse(text) as Record<string, string>;
    const outputs: string[] = [];
    for (const args of [
      ['sync', '--log-level', 'debug'],
      ['status', '--json'],
      ['diff', '--json'],
      ['verify', '--json'],
      ['history', 'claude-a', '--json'],
      ['history', 'config', '--json'],
      ['status', '--store', 'postgres://u:the-database-password@127.0.0.1:1/x'],
    ]) {
      const { stdout, stderr } = await runCommand([...args, '--workspace', root], env);
      outputs.push(stdout, stderr);
    }
    for (const file of readdirSync(join(root, '.tokenmirror')))
      if (file.endsWith('.json') || file.endsWith('.jsonl')) outputs.push(readFileSync(join(root, '.tokenmirror', file), 'utf8'));
    for (const secret of [access, refresh, 'secret-api-key', 'the-database-password']) expect(outputs.join('\n')).not.toContain(secret);
  });
});

test('after uninstalling as documented, the tables of CLIProxyAPI work alone, and a new start adopts them', async () => {
  const root = workspaceWith({ 'auths/claude-a.json': credential() });
  await runCommand(['sync', '--workspace', root], environment);
  const sql = /```sql\n([\s\S]*?)```/.exec(readFileSync(join(import.meta.dirname, '../../docs/uninstall.md'), 'utf8'))?.[1] ?? '';
  expect(sql).toContain('DROP');
  for (const statement of sql.split(';')) if (statement.trim() !== '') await schema.query(statement);
  expect(await schema.query('SELECT proname FROM pg_proc WHERE pronamespace = current_schema()::regnamespace')).toEqual([]);
  await new UpstreamPostgres(schema).saveCredential('by-upstream.json', credential());
  expect((await runCommand(['sync', '--workspace', root, '--adopt'], environment)).exitCode).toBe(0);
  expect(Object.keys(readCredentials(join(root, 'auths')))).toEqual(['by-upstream.json', 'claude-a.json']);
});

describe('options', () => {
  test.each<[string, string[], Record<string, string>, number, string]>([
    ['an unknown flag', ['sync', '--worksapce', '/x'], {}, 2, 'Did you mean --workspace?'],
    ['an unknown command', ['snyc'], {}, 2, 'Did you mean sync?'],
    [
      'a duration that is none',
      ['sync', '--workspace', '/tmp', '--poll-interval', 'soon'],
      {},
      2,
      '--poll-interval has a value that cannot be used',
    ],
    [
      'a value in the environment',
      ['sync', '--workspace', '/tmp'],
      { TOKENMIRROR_HISTORY_LENGTH: '0' },
      2,
      'TOKENMIRROR_HISTORY_LENGTH has a value',
    ],
    ['no workspace', ['sync'], {}, 2, 'Give --workspace DIR'],
    ['a workspace that is not there', ['sync', '--workspace', '/no/such/place'], {}, 3, 'mkdir -p'],
    [
      'a kind of store that does not exist',
      ['sync', '--workspace', '/tmp', '--store', 'mysql://u:secret@h/d'],
      {},
      2,
      'there is no kind of store for mysql://',
    ],
    ['a malformed DSN', ['sync', '--workspace', '/tmp'], { PGSTORE_DSN: 'postgres://user:p%@host/db' }, 2, 'broken percent-encoding'],
    [
      'a DSN parameter that is not understood',
      ['sync', '--workspace', '/tmp'],
      { PGSTORE_DSN: 'postgres://h/d?sslmod=disable' },
      2,
      'parameter "sslmod"',
    ],
    ['a DSN that is nothing', ['sync', '--workspace', '/tmp'], { PGSTORE_DSN: 'my database' }, 2, 'neither a URL nor'],
  ])('%s is an error that says what was meant', async (_, args, env, exitCode, message) => {
    const result = await runCommand(args, env);
    expect(result).toMatchObject({ exitCode, stdout: '' });
    expect(result.stderr).toContain(message);
    expect(result.stderr).not.toContain('secret');
  });

  test('come from flags, environment, .env and tokenmirror.yaml, in this order', async () => {
    const root = workspaceWith({ 'auths/claude-a.json': credential() });
    const [byFile, byDotenv, byEnvironment, byFlag] = ['file', 'dotenv', 'environment', 'flag'].map((name) => join(root, `store-${name}`));
    const storeOf = async (env: Record<string, string>, ...args: string[]): Promise<string> => {
      const { stdout } = await runCommand(['status', '--json', ...args], env, root);
      return (JSON.parse(stdout) as { store: { description: string } }).store.description;
    };
    writeFileSync(join(root, 'tokenmirror.yaml'), `workspace: ${root}\nfilesystem-path: ${String(byFile)}\nhost-sections: [host, port]\n`);
    expect(await storeOf({})).toBe(`file://${String(byFile)}`);
    writeFileSync(join(root, '.env'), `TOKENMIRROR_FILESYSTEM_PATH="${String(byDotenv)}"\n`);
    expect(await storeOf({})).toBe(`file://${String(byDotenv)}`);
    expect(await storeOf({ TOKENMIRROR_FILESYSTEM_PATH: String(byEnvironment) })).toBe(`file://${String(byEnvironment)}`);
    expect(await storeOf({ TOKENMIRROR_FILESYSTEM_PATH: String(byEnvironment) }, '--filesystem-path', String(byFlag))).toBe(
      `file://${String(byFlag)}`,
    );
    writeFileSync(join(root, 'tokenmirror.yaml'), 'worskpace: x\n');
    expect(await runCommand(['status'], {}, root)).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining('Did you mean "workspace"?'),
    });
  });

  test("upstream's names work, in lower case and with quotes too, and its local path is the workspace", async () => {
    const local = temporaryDirectory('local');
    mkdirSync(join(local, 'pgstore', 'auths'), { recursive: true });
    writeFileSync(join(local, 'pgstore', 'auths', 'claude-a.json'), credential());
    const result = await runCommand(['sync'], {
      pgstore_dsn: `"${schema.dsn}"`,
      pgstore_schema: `'${schema.schema}'`,
      PGSTORE_LOCAL_PATH: local,
    });
    expect(result).toMatchObject({ exitCode: 0, stderr: '' });
    expect([...(await new UpstreamPostgres(schema).boot()).credentials.keys()]).toEqual(['claude-a.json']);
  });

  test('a store that is configured and not used is named in the log', async () => {
    const root = workspaceWith({ 'auths/claude-a.json': credential() });
    const { DaemonProcess } = await import('@tokenmirror/testkit');
    const daemon = new DaemonProcess(root, ['--store', pathToFileURL(join(temporaryDirectory('s'), 'store')).href], environment);
    await daemon.start();
    expect(daemon.log.find(({ msg }) => msg === 'store-unused')).toMatchObject({ store: 'postgres' });
    await daemon.stop();
  });

  test('a store and a workspace that lie in each other are refused', async () => {
    const root = workspaceWith({});
    for (const place of [root, join(root, 'auths'), join(root, 'auths', 'store')]) {
      const result = await runCommand(['sync', '--workspace', root, '--store', pathToFileURL(place).href]);
      expect(result).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('lie in each other') });
    }
    expect(existsSync(join(root, '.tokenmirror', 'cluster.json'))).toBe(false);
  });
});
