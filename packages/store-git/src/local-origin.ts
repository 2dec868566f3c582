import { existsSync, readFileSync, statSync } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { TokenmirrorError } from '@tokenmirror/core';
import { hasCode, makeDirectory } from '@tokenmirror/files';
import git, { type PromiseFsClient } from 'isomorphic-git';
import type { Oid, Origin, Publication } from './repository.js';
import { WorkingTree } from './working-tree.js';

const DEFAULT_BRANCH = 'main';
const LOCK_TRIES = 100;
const LOCK_PAUSE_MS = 20;
/** A lock of git's that is older was left behind by a crash. */
const LEFT_BEHIND_MS = 60_000;

/** A branch in a repository of this machine. Commits go straight into it, under git's own lock of the branch; files of a working tree follow. */
export class LocalOrigin implements Origin {
  readonly #path: string;
  readonly #fs: PromiseFsClient;
  readonly #wantedBranch: string | undefined;
  #gitdir = '';
  #branch = DEFAULT_BRANCH;
  #workingTree: WorkingTree | undefined;

  constructor(options: { readonly path: string; readonly branch: string | undefined; readonly fs: PromiseFsClient }) {
    this.#path = options.path;
    this.#fs = options.fs;
    this.#wantedBranch = options.branch;
  }

  get gitdir(): string {
    return this.#gitdir;
  }

  async open(mode: 'create' | 'look'): Promise<void> {
    let gitdir = gitDirectoryOf(this.#path);
    if (gitdir === undefined) {
      if (mode === 'look' || existsSync(this.#path)) throw notARepository(this.#path, mode);
      await makeDirectory(this.#path);
      await git.init({ fs: this.#fs, gitdir: this.#path, bare: true, defaultBranch: this.#wantedBranch ?? DEFAULT_BRANCH });
      gitdir = this.#path;
    }
    this.#gitdir = gitdir;
    const head = await git.resolveRef({ fs: this.#fs, gitdir, ref: 'HEAD', depth: 2 }).catch(() => undefined);
    const checkedOut = head?.startsWith('refs/heads/') === true ? head.slice('refs/heads/'.length) : undefined;
    this.#branch = this.#wantedBranch ?? checkedOut ?? DEFAULT_BRANCH;
    const isBare = gitdir === this.#path;
    this.#workingTree =
      isBare || checkedOut !== this.#branch ? undefined : new WorkingTree({ fs: this.#fs, gitdir, directory: this.#path });
  }

  async latest(): Promise<Oid | undefined> {
    if (!existsSync(join(this.#gitdir, 'objects'))) throw Object.assign(new Error('gone'), { code: 'ENOENT' });
    try {
      return await git.resolveRef({ fs: this.#fs, gitdir: this.#gitdir, ref: this.#ref });
    } catch (error) {
      if ((error as { code?: unknown }).code === 'NotFoundError') return undefined;
      throw error;
    }
  }

  async publish(commit: Oid, parent: Oid | undefined, { edits }: Publication): Promise<boolean> {
    const path = join(this.#gitdir, this.#ref);
    const lock = `${path}.lock`;
    await makeDirectory(dirname(path));
    const handle = await lockRef(lock);
    try {
      await handle.writeFile(`${commit}\n`);
      await handle.sync();
      await handle.close();
      if ((await this.latest()) !== parent) return false;
      await rename(lock, path);
    } finally {
      await handle.close().catch(() => undefined);
      await rm(lock, { force: true });
    }
    await this.#workingTree?.follow(edits);
    return true;
  }

  renew(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  get #ref(): string {
    return `refs/heads/${this.#branch}`;
  }
}

/** The directory with the objects of a repository, bare or with a working tree; `undefined` where there is none. */
function gitDirectoryOf(path: string): string | undefined {
  const isGitDirectory = (at: string): boolean => existsSync(join(at, 'HEAD')) && existsSync(join(at, 'objects'));
  if (isGitDirectory(path)) return path;
  const inside = join(path, '.git');
  if (isGitDirectory(inside)) return inside;
  if (statSync(inside, { throwIfNoEntry: false })?.isFile() !== true) return undefined;
  const linked = /^gitdir: (.+)$/m.exec(readFileSync(inside, 'utf8'))?.[1];
  if (linked === undefined) return undefined;
  const common = join(resolve(path, linked), 'commondir');
  return existsSync(common) ? undefined : resolve(path, linked);
}

async function lockRef(lock: string) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await open(lock, 'wx', 0o600);
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
      const age = Date.now() - ((await stat(lock).catch(() => undefined))?.mtimeMs ?? Date.now());
      if (age > LEFT_BEHIND_MS) await rm(lock, { force: true });
      else if (attempt === LOCK_TRIES)
        throw new TokenmirrorError(
          'STORE_UNREACHABLE',
          `git ${lock} is held by somebody else`,
          'Wait until that is done, or remove the lock.',
        );
      else await delay(LOCK_PAUSE_MS);
    }
  }
}

function notARepository(path: string, mode: 'create' | 'look'): TokenmirrorError {
  return mode === 'look' && !existsSync(path)
    ? new TokenmirrorError('STORE_UNREACHABLE', `git file://${path}: the repository is not there`, 'Correct the path, or mount it.')
    : new TokenmirrorError('STORE_INVALID', `${path} is not a git repository`, 'Make it one (git init), or name another path.');
}
