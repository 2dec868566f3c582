import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test } from '@jest/globals';
import { lockDirectory, lockOwner, type LockAttempt } from '@tokenmirror/files';
import { cleanTemporaryDirectories, temporaryDirectory, until } from '@tokenmirror/testkit';

const BUILT = new URL('../dist/index.js', import.meta.url).href;
const children: ChildProcess[] = [];
let directory: string;

beforeEach(() => {
  directory = temporaryDirectory('lock');
});

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

afterAll(cleanTemporaryDirectories);

/** Another process that tries for the lock, says `true` or `false`, and stays. */
async function contender(): Promise<{ readonly child: ChildProcess; readonly ok: boolean }> {
  const program = `
    const { lockDirectory } = await import(${JSON.stringify(BUILT)});
    const { ok } = await lockDirectory(${JSON.stringify(directory)}, () => undefined);
    process.stdout.write(String(ok));
    setInterval(() => undefined, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  const [said] = (await once(child.stdout, 'data')) as [Buffer];
  return { child, ok: said.toString() === 'true' };
}

const attempt = (lost: () => void = () => undefined): Promise<LockAttempt> => lockDirectory(directory, lost);

async function release(taken: LockAttempt): Promise<void> {
  expect(taken.ok).toBe(true);
  if (taken.ok) await taken.release();
}

test('a lock that a living process holds is refused with its owner, and free after its release', async () => {
  const first = await attempt();
  expect(await attempt()).toMatchObject({ ok: false, owner: { pid: process.pid } });
  expect(await lockOwner(directory)).toMatchObject({ pid: process.pid });
  await release(first);
  expect(existsSync(join(directory, 'owner.json'))).toBe(false);
  expect(await lockOwner(directory)).toBeUndefined();
  await release(await attempt());
});

test('of many processes that come upon the lock of a dead one, exactly one gets it', async () => {
  const { child } = await contender();
  child.kill('SIGKILL');
  await once(child, 'exit');
  const rivals = await Promise.all(Array.from({ length: 6 }, contender));
  expect(rivals.filter(({ ok }) => ok)).toHaveLength(1);
});

test('a process of another container cannot be asked, so its lock is waited for until it is stale', async () => {
  mkdirSync(join(directory, 'lock'));
  writeFileSync(join(directory, 'owner.json'), JSON.stringify({ pid: process.pid, host: hostname(), space: 'pid:[1]' }));
  const nearlyStale = Date.now() / 1000 - 9;
  utimesSync(join(directory, 'lock'), nearlyStale, nearlyStale);
  await release(await attempt());
});

test('who loses the lock is told, and leaves the next owner alone', async () => {
  let isLost = false;
  const taken = await attempt(() => {
    isLost = true;
  });
  rmSync(join(directory, 'lock'), { recursive: true });
  const { ok, child } = await contender().catch(() => ({ ok: false, child: undefined }));
  expect(ok).toBe(true);
  await until('the loser is told', () => isLost);
  await release(taken);
  expect(JSON.parse(readFileSync(join(directory, 'owner.json'), 'utf8'))).toMatchObject({ pid: child?.pid });
});
