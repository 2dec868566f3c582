import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  credential,
  git,
  readCredentials,
  runCommand,
  temporaryDirectory,
  TestBucket,
} from '@tokenmirror/testkit';

const CLAUDE = 'claude-me@example.com.json';
const CODEX = 'codex-me@example.com.json';
const CONFIG = 'port: 8317\napi-keys:\n  - real-key\n';

let primary: TestBucket;
let backup: TestBucket;

beforeEach(() => {
  primary = new TestBucket();
  backup = new TestBucket(primary.access, `${primary.prefix}-backup`);
});

afterEach(async () => {
  for (const bucket of [primary, backup]) await bucket.destroy();
});

afterAll(cleanTemporaryDirectories);

const fields = (text: string): Record<string, unknown> => JSON.parse(text) as Record<string, unknown>;

/** A machine with a workspace of its own. */
class Machine {
  readonly workspace = temporaryDirectory('machine');

  run(...args: string[]) {
    return runCommand([...args, '--workspace', this.workspace], { ...primary.environment, OBJECTSTORE_BACKUP_PREFIX: backup.prefix });
  }

  async works(...args: string[]): Promise<string> {
    const result = await this.run(...args);
    expect([args, result]).toEqual([args, expect.objectContaining({ exitCode: 0 })]);
    return result.stdout;
  }

  /** The machines before it are gone for good. */
  async holdsEverything(): Promise<void> {
    const { waitsFor } = JSON.parse(await this.works('eject', '--yes', '--json')) as { waitsFor: string[] };
    for (const gone of waitsFor) await this.works('replicas', 'dismiss', gone, '--yes');
  }

  write(name: string, text: string): void {
    const path = join(this.workspace, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, text);
  }

  read(name: string): Record<string, unknown> {
    return fields(readFileSync(join(this.workspace, 'auths', name), 'utf8'));
  }

  get credentials(): Record<string, unknown> {
    return readCredentials(join(this.workspace, 'auths'));
  }
}

/** A machine whose two credentials and config are in the bucket and in its backup. */
async function inUse(): Promise<{ readonly machine: Machine; readonly claude: string; readonly codex: string }> {
  const machine = new Machine();
  const [claude, codex] = [credential({ note: 'first' }), credential({ type: 'codex' })];
  machine.write(`auths/${CLAUDE}`, claude);
  machine.write(`auths/${CODEX}`, codex);
  machine.write('config/config.yaml', CONFIG);
  await machine.works('sync');
  return { machine, claude, codex };
}

async function wipe(bucket: TestBucket): Promise<void> {
  for (const name of await bucket.names()) await bucket.remove(name);
}

describe('the recoveries of the guide', () => {
  test('a fresh machine has everything, and with two more commands the refresh tokens, private to its user', async () => {
    const { claude, codex } = await inUse();
    const fresh = new Machine();
    await fresh.works('sync');
    expect(fresh.read(CLAUDE)).not.toHaveProperty('refresh_token');
    await fresh.holdsEverything();
    await fresh.works('sync');
    expect(fresh.credentials).toEqual({ [CLAUDE]: fields(claude), [CODEX]: fields(codex) });
    expect(readFileSync(join(fresh.workspace, 'config/config.yaml'), 'utf8')).toBe(CONFIG);
    expect(statSync(join(fresh.workspace, 'auths', CLAUDE)).mode & 0o777).toBe(0o600);
  });

  test('a file that was deleted from object storage by accident is put back', async () => {
    const { machine, claude } = await inUse();
    await primary.remove(`auths/${CLAUDE}`);
    await primary.remove('config/config.yaml');
    await machine.works('sync');
    expect(await primary.get(`auths/${CLAUDE}`)).toBe(claude);
    expect(await primary.get('config/config.yaml')).toBe(CONFIG);
    expect(machine.read(CLAUDE)).toEqual(fields(claude));
  });

  test('everything that was deleted from object storage comes back from the backup and the machine', async () => {
    const { machine, claude, codex } = await inUse();
    await wipe(primary);
    rmSync(join(machine.workspace, 'auths', CODEX));
    expect(await machine.run('sync')).toMatchObject({ exitCode: 5, stderr: expect.stringContaining('--adopt') });
    await machine.works('sync', '--adopt');
    expect(machine.credentials).toEqual({ [CLAUDE]: fields(claude), [CODEX]: fields(codex) });
    expect(await primary.get(`auths/${CODEX}`)).toBe(codex);
    await machine.works('verify');
  });

  test('a crashed machine, and the bucket with it: a new one has everything from the backup', async () => {
    const { machine, claude, codex } = await inUse();
    rmSync(machine.workspace, { recursive: true });
    await wipe(primary);
    const fresh = new Machine();
    const told = await fresh.works('sync');
    expect(told).toContain('In sync');
    expect(fresh.credentials).toEqual({ [CLAUDE]: fields(claude), [CODEX]: fields(codex) });
    expect(await primary.get(`auths/${CLAUDE}`)).toBe(claude);
  });

  test('settings of one credential are rolled back, and its grant stays', async () => {
    const { machine } = await inUse();
    const later = credential({ note: 'second', proxy_url: 'http://wrong' });
    machine.write(`auths/${CLAUDE}`, later);
    await machine.works('sync');
    const history = JSON.parse(await machine.works('history', CLAUDE, '--json')) as { versions: { id: string }[] };
    expect(history.versions).toHaveLength(1);
    await machine.works('restore', CLAUDE, '--to', history.versions[0]?.id ?? '');
    await machine.works('sync');
    const { access_token, refresh_token } = fields(later);
    expect(machine.read(CLAUDE)).toMatchObject({ access_token, refresh_token, note: 'first' });
    expect(machine.read(CLAUDE)).not.toHaveProperty('proxy_url');
  });

  test('from the backup: a document that is deleted here, and what it was like there', async () => {
    const { machine, codex } = await inUse();
    rmSync(join(machine.workspace, 'auths', CODEX));
    await machine.works('sync');
    expect(await backup.get(`auths/${CODEX}`)).toBeUndefined();
    expect(await machine.works('history', CODEX, '--from', 's3-backup')).toContain('deleted');
    await machine.works('restore', CODEX, '--from', 's3-backup');
    await machine.works('sync');
    expect(machine.read(CODEX)).toEqual(fields(codex));
  });

  test('incident 11: a backup with a newer grant than a store that went back to yesterday is not overwritten, and heals it on restore', async () => {
    const { machine } = await inUse();
    const yesterday = await Promise.all((await primary.names()).map(async (name) => [name, (await primary.get(name)) ?? ''] as const));
    const newer = credential({ note: 'first' });
    machine.write(`auths/${CLAUDE}`, newer);
    await machine.works('sync');
    await wipe(primary);
    for (const [name, text] of yesterday) await primary.put(name, text);

    const other = new Machine();
    expect(await other.run('sync')).toMatchObject({ exitCode: 1, stdout: expect.stringContaining('newer grants than the authority') });
    expect(fields((await backup.get(`auths/${CLAUDE}`)) ?? '')).toEqual(fields(newer));
    await other.works('restore', CLAUDE, '--from', 's3-backup');
    await other.holdsEverything();
    await other.works('sync');
    expect(other.read(CLAUDE)).toEqual(fields(newer));
    expect(existsSync(join(other.workspace, 'auths', CODEX))).toBe(true);
  });
});

test('migrate goes from files to a bucket and to a repository, and back', async () => {
  const { machine, claude } = await inUse();
  const repository = join(temporaryDirectory('migrated'), 'repository.git');
  git(['init', '--quiet', '--bare', repository], '/');
  const directory = join(temporaryDirectory('migrated'), 'store');
  expect(await machine.works('migrate', '--from', 's3', '--to', `git+file://${repository}`)).toContain('3 copied and read back');
  expect(await machine.works('migrate', '--from', `git+file://${repository}`, '--to', `file://${directory}`)).toContain(
    '3 copied and read back',
  );
  expect(readFileSync(join(directory, 'auths', CLAUDE), 'utf8')).toBe(claude);
  const elsewhere = new TestBucket(primary.access, `${primary.prefix}-elsewhere`);
  try {
    expect(
      await machine.works('migrate', '--from', `file://${directory}`, '--to', `s3://${elsewhere.access.bucket}/${elsewhere.prefix}`),
    ).toContain('3 copied');
    expect(await elsewhere.get(`auths/${CLAUDE}`)).toBe(claude);
  } finally {
    await elsewhere.destroy();
  }
});
