import { readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import lockfile from 'proper-lockfile';
import { hasCode } from './atomic-file.js';

const OWNER_FILE = 'owner.json';
/** A lock of a process on another machine that was not renewed for this long is abandoned. */
const STALE_MS = 10_000;

export interface LockOwner {
  readonly pid: number;
  readonly host: string;
}

export type LockAttempt =
  { readonly ok: true; readonly release: () => Promise<void> } | { readonly ok: false; readonly owner: LockOwner | undefined };

/** Takes a lock on a directory for this process. A lock whose owner died on this machine is taken over at once. `lost` is told when somebody took it away. */
export async function lockDirectory(directory: string, lost: (error: Error) => void): Promise<LockAttempt> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      const release = await lockfile.lock(directory, { lockfilePath: lockPath(directory), stale: STALE_MS, onCompromised: lost });
      await writeFile(join(directory, OWNER_FILE), JSON.stringify({ pid: process.pid, host: hostname() }), { mode: 0o600 });
      return { ok: true, release };
    } catch (error) {
      if (!hasCode(error, 'ELOCKED')) throw error;
      const owner = await readOwner(directory);
      if (attempt > 0 || owner === undefined || !isDead(owner)) return { ok: false, owner };
      await rm(lockPath(directory), { recursive: true, force: true });
    }
  }
}

/** The process that holds the lock on a directory now. */
export async function lockOwner(directory: string): Promise<LockOwner | undefined> {
  const owner = await readOwner(directory);
  if (owner === undefined || isDead(owner)) return undefined;
  const held = await lockfile.check(directory, { lockfilePath: lockPath(directory), stale: STALE_MS }).catch(() => false);
  return held ? owner : undefined;
}

function lockPath(directory: string): string {
  return join(directory, 'lock');
}

async function readOwner(directory: string): Promise<LockOwner | undefined> {
  try {
    const owner = JSON.parse(await readFile(join(directory, OWNER_FILE), 'utf8')) as Partial<LockOwner>;
    return typeof owner.pid === 'number' && typeof owner.host === 'string' ? { pid: owner.pid, host: owner.host } : undefined;
  } catch {
    return undefined;
  }
}

function isDead({ pid, host }: LockOwner): boolean {
  if (host !== hostname()) return false;
  if (pid === process.pid) return true;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return hasCode(error, 'ESRCH');
  }
}
