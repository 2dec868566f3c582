import { hash } from 'node:crypto';
import type { DocumentKey, StoreKey, Version } from '@tokenmirror/core';
import { hashOf, historyDirectory } from './layout.js';
import { parseOwn } from './own-json.js';
import type { Edit, Objects } from './repository.js';
import type { Snapshot } from './snapshot.js';

/** A content as it is kept. `at` in ms since the epoch, by the clock of who kept it. */
export interface KeptFile {
  readonly at: number;
  readonly reason: string;
  readonly author?: string;
  readonly content: string;
}

/** The earlier versions of each document, as files of the same commit: they come with every clone, however shallow. */
export class GitHistory {
  readonly #snapshot: Snapshot;
  readonly #objects: Objects;
  readonly #length: number;

  constructor(snapshot: Snapshot, objects: Objects, length: number) {
    this.#snapshot = snapshot;
    this.#objects = objects;
    this.#length = length;
  }

  /** What has to be edited to keep a content, the oldest versions giving way. Nothing when it is the newest one already. */
  async keeping(key: StoreKey, kept: KeptFile): Promise<readonly Edit[]> {
    const directory = historyDirectory(hashOf(key));
    const names = this.#names(key);
    const digest = hash('sha256', kept.content, 'hex').slice(0, 12);
    const newest = names[0];
    if (newest?.endsWith(`-${digest}.json`) === true) return [];
    const number = Number(newest?.slice(0, 9) ?? 0) + 1;
    const path = `${directory}/${String(number).padStart(9, '0')}-${digest}.json`;
    const after = await this.#objects.writeText(JSON.stringify(kept));
    const superfluous = names.slice(this.#length - 1).map((name) => `${directory}/${name}`);
    return [{ path, after }, ...superfluous.map((old) => ({ path: old, after: undefined }))];
  }

  async versions(key: DocumentKey): Promise<readonly Version[]> {
    const kept = await Promise.all(this.#names(key).map(async (name) => ({ id: name.slice(0, 9), file: await this.#read(key, name) })));
    return kept.map(({ id, file: { at, reason, author } }) => ({ id, at, reason, author }));
  }

  async content(key: DocumentKey, id: string): Promise<string | undefined> {
    const name = this.#names(key).find((each) => each.slice(0, 9) === id);
    return name === undefined ? undefined : (await this.#read(key, name)).content;
  }

  /** Newest first. */
  #names(key: StoreKey): readonly string[] {
    return this.#snapshot
      .names(historyDirectory(hashOf(key)))
      .filter((name) => /^\d{9}-[0-9a-f]{12}\.json$/.test(name))
      .sort()
      .reverse();
  }

  async #read(key: DocumentKey, name: string): Promise<KeptFile> {
    const oid = this.#snapshot.files.get(`${historyDirectory(hashOf(key))}/${name}`) ?? '';
    return parseOwn(await this.#objects.text(oid), `${name} below .tokenmirror/history`) as KeptFile;
  }
}
