import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  credential,
  DaemonProcess,
  runCommand,
  temporaryDirectory,
  until,
  type CommandResult,
} from '@tokenmirror/testkit';

const CLAUDE = 'claude-me@example.com.json';
const SHARED = ['--filesystem-shared'];

let store: string;
let first: Machine;
let second: Machine;

/** A machine with a workspace of its own on one store. */
class Machine {
  readonly workspace = temporaryDirectory('machine');

  run(...args: string[]): Promise<CommandResult> {
    return runCommand([...args, '--workspace', this.workspace, '--store', store]);
  }

  async works(...args: string[]): Promise<string> {
    const result = await this.run(...args);
    expect([args, result]).toEqual([args, expect.objectContaining({ exitCode: 0 })]);
    return result.stdout;
  }

  write(text: string): void {
    mkdirSync(join(this.workspace, 'auths'), { recursive: true });
    writeFileSync(join(this.workspace, 'auths', CLAUDE), text, { mode: 0o600 });
  }

  get credential(): Record<string, unknown> {
    return JSON.parse(readFileSync(join(this.workspace, 'auths', CLAUDE), 'utf8')) as Record<string, unknown>;
  }

  get isWhole(): boolean {
    return 'refresh_token' in this.credential;
  }

  get replicaId(): string {
    return (JSON.parse(readFileSync(join(this.workspace, 'auths', '.tokenmirror-replica'), 'utf8')) as { id: string }).id;
  }
}

beforeEach(async () => {
  store = pathToFileURL(join(temporaryDirectory('store'), 'store')).href;
  first = new Machine();
  second = new Machine();
  first.write(credential());
  await first.works('sync');
});

afterAll(cleanTemporaryDirectories);

describe('alone', () => {
  test('nothing changes: the file is whole, and status says who holds what', async () => {
    expect(first.isWhole).toBe(true);
    const shown = await first.works('custody', 'status');
    expect(shown).toContain('alone: this replica holds every refresh token');
    expect(shown).toContain(CLAUDE);
    expect(shown).not.toContain(String(first.credential['refresh_token']));
    await first.works('verify');
  });

  test('a second replica needs a directory that is said to be shared, and changes nothing without', async () => {
    expect(await second.run('sync')).toMatchObject({ exitCode: 5, stderr: expect.stringContaining('--filesystem-shared') });
    expect(existsSync(join(second.workspace, 'auths', CLAUDE))).toBe(false);
    expect(await first.works('custody', 'status')).toContain('alone');
  });

  test('a second replica without custody is refused', async () => {
    expect(await second.run('sync', '--custody', 'off')).toMatchObject({ exitCode: 5, stderr: expect.stringContaining('CUSTODY_REFUSED') });
    expect(existsSync(join(second.workspace, 'auths', CLAUDE))).toBe(false);
  });

  test('a replica whose auth directory was lost is the same one afterwards', async () => {
    rmSync(join(first.workspace, 'auths'), { recursive: true });
    await first.works('sync');
    expect(first.isWhole).toBe(true);
  });
});

describe('shared', () => {
  beforeEach(async () => {
    await second.works('sync', ...SHARED);
  });

  test('incident 20: the newcomer is sealed from its first byte, and its copy never becomes the stored one', async () => {
    expect(second.isWhole).toBe(false);
    expect(second.credential['access_token']).toBe(first.credential['access_token']);
    second.write(JSON.stringify({ ...second.credential, note: 'edited beside a sealed token' }));
    await second.works('sync', ...SHARED);
    const whole = await first.run('eject', '--yes');
    expect(whole.exitCode).toBe(0);
    await first.works('sync', ...SHARED);
    expect(first.credential).toMatchObject({ note: 'edited beside a sealed token', refresh_token: expect.any(String) });
  });

  test('who was alone seals its files, and holds every token until it has handed over', async () => {
    await first.works('sync', ...SHARED);
    expect(first.isWhole).toBe(false);
    const shown = await second.run('custody', 'status', '--json');
    expect(shown.exitCode).toBe(1);
    expect(JSON.parse(shown.stdout)).toMatchObject({ mode: { mode: 'shared', handover: first.replicaId }, here: second.replicaId });
    expect(await second.run('sync', '--custody', 'off')).toMatchObject({ exitCode: 5 });
    await second.works('verify');
  });

  test('eject makes one replica hold every token again, after a yes', async () => {
    expect(await second.run('eject')).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('--yes') });
    expect(JSON.parse(await second.works('eject', '--dry-run', '--json'))).toEqual({
      to: second.replicaId,
      waitsFor: [first.replicaId],
      isDone: false,
    });
    await second.works('sync', ...SHARED);
    expect(second.isWhole).toBe(false);

    await second.works('eject', '--yes');
    await second.works('sync', ...SHARED);
    expect(second.isWhole).toBe(false);
    await second.works('replicas', 'dismiss', first.replicaId, '--yes');
    await second.works('sync', ...SHARED);
    expect(second.isWhole).toBe(true);
    await first.works('sync', ...SHARED);
    expect(first.isWhole).toBe(false);
    expect(await second.works('custody', 'status')).toContain('alone: this replica');
    expect(await first.works('custody', 'status')).toContain(`alone: the replica ${second.replicaId}`);
  });

  test('incident 41: a replica that is gone holds its tokens until a person dismisses it', async () => {
    expect(await second.run('replicas', 'dismiss', 'nobody-of-us')).toMatchObject({ exitCode: 2 });
    expect(await second.run('replicas', 'dismiss', 'nobody-of-us', '--yes')).toMatchObject({ exitCode: 6 });
    expect(await second.run('replicas', 'dismiss', second.replicaId, '--yes')).toMatchObject({ exitCode: 2 });
    await second.works('replicas', 'dismiss', first.replicaId, '--yes');
    expect(JSON.parse(await second.works('custody', 'status', '--json'))).toMatchObject({ mode: { mode: 'shared' } });
  });

  test('what one replica holds as a whole is not taken over one by one', async () => {
    expect(await second.run('custody', 'refresh', 'nobody')).toMatchObject({ exitCode: 6 });
    expect(await second.run('custody', 'takeover', 'claude-me@example.com', '--yes')).toMatchObject({
      exitCode: 5,
      stderr: expect.stringContaining(`replicas dismiss ${first.replicaId}`),
    });
    await second.works('replicas', 'dismiss', first.replicaId, '--yes');
    expect(await second.works('custody', 'takeover', 'claude-me@example.com', '--yes')).toContain('nobody holds it');
  });
});

describe('a daemon', () => {
  let daemon: DaemonProcess;

  beforeEach(() => {
    daemon = new DaemonProcess(second.workspace, ['--store', store, ...SHARED, '--poll-interval', '200ms']);
  });

  afterEach(() => daemon.kill());

  test('is in the list of replicas, follows an eject, and says what it does', async () => {
    await daemon.start();
    expect(second.isWhole).toBe(false);
    const listed = JSON.parse(await first.works('replicas', 'list', '--json')) as { id: string; custody: string; isHere: boolean }[];
    expect(listed).toEqual([expect.objectContaining({ id: second.replicaId, custody: 'auto', isRefresher: true, isHere: false })]);
    await second.works('eject', '--yes');
    await second.works('replicas', 'dismiss', first.replicaId, '--yes');
    await until('its file is whole', () => second.isWhole);
    await until('status says so', async () => (await second.run('status')).stdout.includes('alone, with every refresh token'));
  });

  test('that is alone sees that it no longer is, and seals its files', async () => {
    const alone = new DaemonProcess(first.workspace, ['--store', store, ...SHARED, '--poll-interval', '200ms']);
    try {
      await alone.start();
      expect(first.isWhole).toBe(true);
      await daemon.start();
      await until('the one that was alone is sealed', () => !first.isWhole);
    } finally {
      await alone.kill();
    }
  });
});
