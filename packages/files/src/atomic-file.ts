import { randomBytes } from 'node:crypto';
import { closeSync, fsync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { link, mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const sync = promisify(fsync);

/** Hidden, and not ending in `.json`: CLIProxyAPI and our own scans pass over it, and it can be told apart from a user's file. */
const TEMPORARY = /^\.tokenmirror-[0-9a-f]{16}\.tmp$/;
/** A temporary file that is older than this was left behind by a crash. */
const LEFT_BEHIND_MS = 60_000;

export interface AtomicOptions {
  /** Permission bits from the first byte on. Default 0600. */
  readonly mode?: number;
  /** `false` for a copy that can be made again: no fsync. Default true. */
  readonly durable?: boolean;
  /** Called when the new content is durable, right before it takes the name; `false` gives it up. */
  readonly confirm?: () => boolean;
}

/** Writes temp file, fsync, rename: a reader sees the old content or the new one, and a crash leaves one of them. */
export async function replaceFile(path: string, content: string | Uint8Array, options: AtomicOptions = {}): Promise<boolean> {
  const temporary = await writeTemporary(path, content, options.mode ?? 0o600, options.durable ?? true);
  try {
    if (options.confirm?.() !== false) {
      renameSync(temporary, path);
      return true;
    }
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  rmSync(temporary, { force: true });
  return false;
}

/** Creates a file with its whole content at once; `false` when the name is taken. Of any number of processes one succeeds. */
export async function createFile(path: string, content: string | Uint8Array): Promise<boolean> {
  const temporary = await writeTemporary(path, content, 0o600, true);
  try {
    await link(temporary, path);
    return true;
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return false;
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Makes a directory and its parents, private to the user where it makes them. */
export async function makeDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
}

/** Removes temporary files of ours that a crash left in a directory; they hold credentials. */
export async function removeLeftovers(directory: string, depth: 'flat' | 'with sub-directories' = 'flat'): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true }).catch(() => [])) {
    const path = join(directory, entry.name);
    if (entry.isDirectory() && depth === 'with sub-directories') await removeLeftovers(path, depth);
    if (!TEMPORARY.test(entry.name)) continue;
    const age = Date.now() - (await stat(path).catch(() => ({ mtimeMs: Date.now() }))).mtimeMs;
    if (age > LEFT_BEHIND_MS) await rm(path, { force: true });
  }
}

/** Makes renames and links in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export function hasCode(error: unknown, ...codes: string[]): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  return code !== undefined && codes.includes(code);
}

let writing = 0;

/** Alone, an fsync is over sooner than a thread could be asked; many at once share one commit of the file system's journal. */
async function syncFile(descriptor: number): Promise<void> {
  writing += 1;
  try {
    await Promise.resolve();
    if (writing === 1) fsyncSync(descriptor);
    else await sync(descriptor);
  } finally {
    writing -= 1;
  }
}

async function writeTemporary(path: string, content: string | Uint8Array, mode: number, durable: boolean): Promise<string> {
  const temporary = join(dirname(path), `.tokenmirror-${randomBytes(8).toString('hex')}.tmp`);
  const descriptor = openSync(temporary, 'wx', mode);
  try {
    writeFileSync(descriptor, content);
    if (durable) await syncFile(descriptor);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    closeSync(descriptor);
  }
  return temporary;
}
