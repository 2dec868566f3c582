import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { TokenmirrorError } from '@tokenmirror/core';
import { hasCode, makeDirectory } from '@tokenmirror/files';
import git, { type PromiseFsClient } from 'isomorphic-git';
import type { Oid, Origin } from './repository.js';
import { WorkingTree } from './working-tree.js';

const DEFAULT_BRANCH = 'main';
const LOCK_TRIES = 100;
const LOCK_PAUSE_MS = 20;
const READ_TRIES = 3;

/** A branch in a repository of this machine. Commits go straight into it, under git's own lock of the branch; files of a working tree follow. */
export class LocalOrigin implements Origin {
  readonly #path: string;
  readonly #fs: PromiseFsClient;
  readonly #wantedBranch: string | undefined;
  readonly generation = 0;
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

  async open(): Promise<void> {
    const gitdir = gitDirectoryOf(this.#path);
    if (gitdir === undefined) throw notARepository(this.#path);
    this.#gitdir = gitdir;
    refuseOtherFormats(this.#path, gitdir);
    const head = await git.resolveRef({ fs: this.#fs, gitdir, ref: 'HEAD', depth: 2 }).catch(() => undefined);
    const checkedOut = head?.startsWith('refs/heads/') === true ? head.slice('refs/heads/'.length) : undefined;
    this.#branch = this.#wantedBranch ?? checkedOut ?? DEFAULT_BRANCH;
    refuseLinkedWorktree(gitdir, this.#ref);
    this.#workingTree = gitdir === this.#path ? undefined : new WorkingTree(this.#path, gitdir);
    const tip = await this.latest();
    if (tip !== undefined) await this.#workingTree?.follow(this.#branch, tip, tip);
  }

  async latest(): Promise<Oid | undefined> {
    if (!existsSync(join(this.#gitdir, 'objects'))) throw notARepository(this.#path);
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await git.resolveRef({ fs: this.#fs, gitdir: this.#gitdir, ref: this.#ref });
      } catch (error) {
        if ((error as { code?: unknown }).code === 'NotFoundError' && !this.#isNamed()) return undefined;
        // Somebody may have made it just now.
        if (attempt < READ_TRIES) continue;
        throw new TokenmirrorError(
          'STORE_UNREACHABLE',
          `git file://${this.#path}: the branch ${this.#branch} cannot be read`,
          'Mend it (git fsck), or name another branch.',
          { cause: error },
        );
      }
    }
  }

  now(): Promise<number> {
    return Promise.resolve(Date.now());
  }

  async publish(commit: Oid, parent: Oid | undefined): Promise<boolean> {
    const path = join(this.#gitdir, this.#ref);
    const lock = `${path}.lock`;
    await makeDirectory(dirname(path));
    const handle = await lockRef(lock);
    let isOurs = true;
    try {
      await handle.writeFile(`${commit}\n`);
      await handle.sync();
      await handle.close();
      if ((await this.latest()) !== parent) return false;
      await this.#workingTree?.remember(parent);
      await rename(lock, path);
      isOurs = false;
    } finally {
      await handle.close().catch(() => undefined);
      if (isOurs) await rm(lock, { force: true });
    }
    await this.#workingTree?.follow(this.#branch, commit, parent);
    return true;
  }

  renew(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** True when there is something by the name of the branch, readable or not. */
  #isNamed(): boolean {
    const packed = join(this.#gitdir, 'packed-refs');
    return existsSync(join(this.#gitdir, this.#ref)) || (existsSync(packed) && readFileSync(packed, 'utf8').includes(` ${this.#ref}\n`));
  }

  get #ref(): string {
    return `refs/heads/${this.#branch}`;
  }
}

/** The directory with the objects of a repository, bare or with a working tree; `undefined` where there is none. */
function gitDirectoryOf(path: string): string | undefined {
  const isGitDirectory = (at: string): boolean => existsSync(join(at, 'HEAD')) && existsSync(join(at, 'objects'));
  return [path, join(path, '.git')].find(isGitDirectory);
}

function refuseOtherFormats(path: string, gitdir: string): void {
  const config = join(gitdir, 'config');
  const found = existsSync(config)
    ? /^\s*(objectformat\s*=\s*sha256|refstorage\s*=\s*reftable)/im.exec(readFileSync(config, 'utf8'))
    : null;
  if (found === null) return;
  throw new TokenmirrorError(
    'STORE_UNSUITABLE',
    `git file://${path}: its format is not supported (${found[1]?.trim() ?? ''})`,
    'Name a repository with SHA-1 objects and refs as files.',
  );
}

/** A second working tree on the branch would show everything that we commit as taken back. */
function refuseLinkedWorktree(gitdir: string, ref: string): void {
  const worktrees = join(gitdir, 'worktrees');
  for (const name of existsSync(worktrees) ? readdirSync(worktrees) : []) {
    const head = join(worktrees, name, 'HEAD');
    if (existsSync(head) && readFileSync(head, 'utf8').trim() === `ref: ${ref}`)
      throw new TokenmirrorError(
        'STORE_UNSUITABLE',
        `git ${gitdir}: the branch is checked out in the linked worktree ${name}`,
        'Check out another branch there, or name another branch.',
      );
  }
}

async function lockRef(lock: string) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await open(lock, 'wx', 0o600);
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
      if (attempt === LOCK_TRIES)
        throw new TokenmirrorError(
          'STORE_UNREACHABLE',
          `git ${lock} is held by somebody else`,
          'Wait until that is done. If no git command is running, it was left behind by a crash: remove it.',
        );
      await delay(LOCK_PAUSE_MS);
    }
  }
}

function notARepository(path: string): TokenmirrorError {
  return existsSync(path)
    ? new TokenmirrorError(
        'STORE_INVALID',
        `${path} is not a git repository`,
        `Make it one (git init --bare ${path}), or name another path.`,
      )
    : new TokenmirrorError(
        'STORE_UNREACHABLE',
        `git file://${path}: the repository is not there`,
        `Mount it, or make it: git init --bare ${path}`,
      );
}
