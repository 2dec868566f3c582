import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { hasCode, replaceFile } from '@tokenmirror/files';
import type { Oid } from './repository.js';

const run = promisify(execFile);
const EMPTY_TREE = '4b825dc642cb6eb9a060e54bf8d69288fbee4904';

/**
 * The checked-out files of a repository, which follow the commits that we make on their branch. Git itself does it, as for a push into a checked-out branch
 * (`receive.denyCurrentBranch = updateInstead`): under its own lock of the index, whatever format that has, and not at all where a person has changed the same
 * files. What could not follow is tried again with the next commit.
 */
export class WorkingTree {
  readonly #directory: string;
  /** Names the commit that the working tree shows, until it shows the newest one. */
  readonly #journal: string;

  constructor(directory: string, gitdir: string) {
    this.#directory = directory;
    this.#journal = join(gitdir, 'tokenmirror-working-tree');
  }

  /** To be called before the branch moves on from a commit. */
  async remember(shown: Oid | undefined): Promise<void> {
    if ((await this.#shown()) === undefined) await replaceFile(this.#journal, `${shown ?? EMPTY_TREE}\n`);
  }

  /** Brings files and index up to the newest commit of the branch. Never throws: the commit is made. */
  async follow(branch: string, newest: Oid, before: Oid | undefined): Promise<void> {
    const shown = await this.#shown();
    if (shown === undefined || (await this.#checkedOut()) !== `refs/heads/${branch}`) return;
    // A person may have checked the branch out anew meanwhile.
    for (const from of [shown, before ?? EMPTY_TREE]) {
      try {
        await this.#git('read-tree', '-m', '-u', from, newest);
        await replaceFile(this.#journal, '');
        return;
      } catch {
        continue;
      }
    }
  }

  /** `undefined` and empty: the newest commit. */
  async #shown(): Promise<string | undefined> {
    try {
      const text = (await readFile(this.#journal, 'utf8')).trim();
      return text === '' ? undefined : text;
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  async #checkedOut(): Promise<string | undefined> {
    try {
      return (await this.#git('symbolic-ref', '--quiet', 'HEAD')).trim();
    } catch {
      return undefined;
    }
  }

  async #git(...args: string[]): Promise<string> {
    // What git writes holds tokens: for nobody else to read.
    const words = ['-c', 'umask 077; exec git "$@"', 'git', '-C', this.#directory, ...args];
    const { PATH, HOME } = process.env;
    const { stdout } = await run('sh', words, { env: { PATH, HOME, LC_ALL: 'C', GIT_OPTIONAL_LOCKS: '0' } });
    return stdout;
  }
}
