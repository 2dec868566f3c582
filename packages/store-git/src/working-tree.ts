import { readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { hasCode, makeDirectory, replaceFile } from '@tokenmirror/files';
import git, { type PromiseFsClient } from 'isomorphic-git';
import type { Edit } from './repository.js';

export interface WorkingTreeOptions {
  readonly fs: PromiseFsClient;
  readonly gitdir: string;
  readonly directory: string;
}

/** The checked-out files of a repository. Those that a commit of ours changed follow it; what a person has changed there and not committed stays. */
export class WorkingTree {
  readonly #options: WorkingTreeOptions;

  constructor(options: WorkingTreeOptions) {
    this.#options = options;
  }

  async follow(edits: readonly Edit[]): Promise<void> {
    const { fs, gitdir, directory } = this.#options;
    for (const { path, before, after } of edits) {
      const file = join(directory, path);
      const standing = await contentOf(file);
      const { oid } = standing === undefined ? { oid: undefined } : await git.hashBlob({ object: standing });
      if (oid !== before) continue;
      if (after === undefined) {
        await rm(file, { force: true });
        await git.remove({ fs, dir: directory, gitdir, filepath: path });
      } else {
        const { blob } = await git.readBlob({ fs, gitdir, oid: after });
        await makeDirectory(dirname(file));
        await replaceFile(file, blob);
        await git.add({ fs, dir: directory, gitdir, filepath: path, force: true });
      }
    }
  }
}

async function contentOf(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR', 'EISDIR')) return undefined;
    throw error;
  }
}
