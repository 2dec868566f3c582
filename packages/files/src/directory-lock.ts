import { readFile, rm, writeFile } from 'node:fs/promises';
import { readlinkSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import lockfile from 'proper-lockfile';
import { hasCode } from './atomic-file.js';

const OWNER_FILE = 'owner.json';
/** A lock of a process elsewhere that was not renewed for this long is abandoned. */
const STALE_MS = 10_000;
/** How often and how long to try for a lock whose owner cannot be asked whether it lives; longer than it takes to become stale. */
const PATIENCE = { retries: 60, factor: 1, minTimeout: 200, maxTimeout: 200 };

export interface LockOwner {
  readonly pid: number;
  readonly host: string;
  /** The space in which `pid` is unique: containers of one pod share a host name, and each has a process 1. */
  readonly space: string;
}

export type LockAttempt =
  { readonly ok: true; readonly release: () => Promise<void> } | { readonly ok: false; readonly owner: LockOwner | undefined };

/**
 * Takes a lock on a directory for this process. A lock whose owner died in our process space is taken over at once; one of a process that cannot be
 * asked, when it was not renewed for 10 s, for which this waits. `lost` is told when somebody took the lock away.
 */
export async function lockDirectory(directory: string, lost: (error: Error) => void): Promise<LockAttempt> {
  let leaveTaking: (() => Promise<void>) | undefined;
  try {
    leaveTaking = await lock(join(directory, 'lock.taking'), PATIENCE, () => undefined);
    const owner = await readOwner(directory);
    if (owner !== undefined && isDead(owner)) await rm(lockPath(directory), { recursive: true, force: true });
    let isOurs = true;
    const unlock = await lock(lockPath(directory), owner !== undefined && isHere(owner) ? 0 : PATIENCE, (error) => {
      isOurs = false;
      lost(error);
    });
    await writeFile(join(directory, OWNER_FILE), JSON.stringify(ourselves()), { mode: 0o600 });
    return {
      ok: true,
      release: async () => {
        if (!isOurs) return;
        await rm(join(directory, OWNER_FILE), { force: true });
        await unlock();
      },
    };
  } catch (error) {
    if (!hasCode(error, 'ELOCKED')) throw error;
    return { ok: false, owner: await readOwner(directory) };
  } finally {
    await leaveTaking?.();
  }
}

/** The process that holds the lock on a directory now. */
export async function lockOwner(directory: string): Promise<LockOwner | undefined> {
  const owner = await readOwner(directory);
  if (owner === undefined || isDead(owner)) return undefined;
  const held = await lockfile
    .check(lockPath(directory), { lockfilePath: lockPath(directory), realpath: false, stale: STALE_MS })
    .catch(() => false);
  return held ? owner : undefined;
}

function lock(path: string, retries: typeof PATIENCE | 0, onCompromised: (error: Error) => void) {
  return lockfile.lock(path, { lockfilePath: path, realpath: false, stale: STALE_MS, retries, onCompromised });
}

function lockPath(directory: string): string {
  return join(directory, 'lock');
}

async function readOwner(directory: string): Promise<LockOwner | undefined> {
  try {
    const { pid, host, space } = JSON.parse(await readFile(join(directory, OWNER_FILE), 'utf8')) as Partial<LockOwner>;
    return typeof pid === 'number' && typeof host === 'string' && typeof space === 'string' ? { pid, host, space } : undefined;
  } catch {
    return undefined;
  }
}

function ourselves(): LockOwner {
  return { pid: process.pid, host: hostname(), space: processSpace() };
}

function processSpace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return '';
  }
}

function isHere({ host, space }: LockOwner): boolean {
  return host === hostname() && space === processSpace();
}

function isDead(owner: LockOwner): boolean {
  if (!isHere(owner)) return false;
  try {
    process.kill(owner.pid, 0);
    return false;
  } catch (error) {
    return hasCode(error, 'ESRCH');
  }
}
