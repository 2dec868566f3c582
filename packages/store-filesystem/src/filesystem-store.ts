import { existsSync, watch as watchDirectory, type FSWatcher } from 'node:fs';
import { join } from 'node:path';
import { readDocumentKey, type StopWatching, type TokenStore } from '@tokenmirror/core';
import { LogStore, QUIET_MS } from '@tokenmirror/change-log';
import { explain } from './directory-errors.js';
import { DirectoryLog } from './directory-log.js';
import { PlainTree } from './plain-tree.js';

export interface FilesystemStoreOptions {
  /** The directory; made when it does not exist (its parent must). */
  readonly directory: string;
  /** Makes what it lies in too. Otherwise a parent that is not there counts as a disk that is not mounted. */
  readonly makesParents?: boolean;
  readonly historyLength?: number;
}

const COMPARED_EVERY_MS = 60_000;

/** A directory as a store. */
export class FilesystemStore extends LogStore implements TokenStore {
  readonly #directory: string;

  constructor({ directory, makesParents = false, historyLength }: FilesystemStoreOptions) {
    super(
      {
        description: `file://${directory}`,
        log: new DirectoryLog(directory, makesParents),
        plain: new PlainTree(directory, { bareAuths: false }),
        bare: new PlainTree(directory, { bareAuths: true }),
        objection: () => undefined,
        comparedEveryMs: COMPARED_EVERY_MS,
        explain: (error) => explain(error, directory),
      },
      historyLength,
    );
    this.#directory = directory;
  }

  watch(hint: () => void): Promise<StopWatching> {
    const watchers: FSWatcher[] = [];
    let quiet: NodeJS.Timeout | undefined;
    const add = (folder: string, noticed: (name: string | null) => void): void => {
      const path = join(this.#directory, folder);
      if (!existsSync(path)) return;
      const watcher = watchDirectory(path, (_, name) => {
        noticed(name);
      });
      watcher.on('error', () => undefined);
      watchers.push(watcher);
    };
    const suspect = (prefix: string) => (name: string | null) => {
      const reading = readDocumentKey(prefix + (name ?? ''));
      if (!reading.ok) return;
      this.suspect(reading.key);
      quiet ??= setTimeout(() => {
        quiet = undefined;
        hint();
      }, QUIET_MS);
    };
    add('.tokenmirror/log', hint);
    add('auths', suspect('auths/'));
    add('config', suspect('config/'));
    return Promise.resolve(() => {
      for (const watcher of watchers) watcher.close();
      clearTimeout(quiet);
      return Promise.resolve();
    });
  }
}
