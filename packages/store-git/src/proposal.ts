import { randomBytes, randomUUID } from 'node:crypto';
import { CURRENT_FORMAT, readDocumentKey, type Change, type DocumentKey, type Fingerprint, type StoreKey } from '@tokenmirror/core';
import type { Branch } from './branch.js';
import type { Told } from './commit-message.js';
import type { Standing, StoredEntry } from './entry-index.js';
import type { KeptFile } from './git-history.js';
import { CLUSTER_PATH, contentPath, entryPath, hashOf, KEPT_PATHS } from './layout.js';
import type { Edit, Objects, Oid } from './repository.js';

/** A commit in the making, on top of what was seen of the branch last. */
export class Proposal {
  readonly #branch: Branch;
  readonly #objects: Objects;
  readonly #edits: Edit[] = [];
  readonly #told: Told[] = [];

  constructor(branch: Branch, objects: Objects) {
    this.#branch = branch;
    this.#objects = objects;
    objects.begin();
  }

  get isEmpty(): boolean {
    return this.#edits.length === 0;
  }

  /** `false` when somebody else was first. */
  commit(): Promise<boolean> {
    return this.#branch.commit(this.#edits, this.#told);
  }

  /** The cluster's identity, and the directories that CLIProxyAPI expects. */
  async found(): Promise<void> {
    const identity = { id: randomUUID(), key: randomBytes(32).toString('base64url') };
    const texts: readonly (readonly [string, string])[] = [
      [CLUSTER_PATH, `${JSON.stringify({ ...CURRENT_FORMAT, ...identity })}\n`],
      ...KEPT_PATHS.map((path) => [path, ''] as const),
    ];
    for (const [path, text] of texts) if (this.#branch.at(path) === undefined) this.#set(path, await this.#objects.writeText(text));
  }

  async change({ key, content, lineage }: Change, author: string): Promise<void> {
    const standing = this.#branch.index.get(key);
    const before = standing?.content;
    this.#told.push({ key, what: content === null ? 'Delete' : before === undefined ? 'Add' : 'Update' });
    const after = content === null ? undefined : await this.#objects.writeText(content);
    await this.#enter(key, standing, after, lineage);
    if (before === after) return;
    this.#set(contentPath(key), after);
    if (before === undefined || !readDocumentKey(key).ok) return;
    const reason = content === null ? 'deleted' : 'replaced';
    await this.#keep(key, { at: Date.now(), reason, author, content: await this.#objects.text(before) });
  }

  /** What somebody else committed gets an entry of its own, so that its revision never returns; what it replaced or removed goes into the history. */
  async adopt(key: DocumentKey, standing: Standing): Promise<void> {
    const lost = standing.entry?.content === undefined ? undefined : await this.#objects.textIfKept(standing.entry.content);
    const reason = standing.content === undefined ? 'deleted' : 'replaced';
    if (lost !== undefined) await this.#keep(key, { at: Date.now(), reason, content: lost });
    await this.#enter(key, standing, standing.content, await this.#branch.index.lineageOf(standing));
    this.#told.push({ key, what: 'Note a change by somebody else of' });
  }

  async archive(key: DocumentKey, kept: KeptFile): Promise<void> {
    await this.#keep(key, kept);
    this.#told.push({ key, what: 'Keep an earlier version of' });
  }

  async #keep(key: StoreKey, kept: KeptFile): Promise<void> {
    this.#edits.push(...(await this.#branch.history.keeping(key, kept)));
  }

  async #enter(key: StoreKey, standing: Standing | undefined, content: Oid | undefined, lineage: readonly Fingerprint[]): Promise<void> {
    const path = entryPath(hashOf(key), content);
    const entry: StoredEntry = { key, lineage, nonce: randomUUID() };
    const old = standing?.entry?.path;
    if (old !== undefined && old !== path) this.#set(old, undefined);
    this.#set(path, await this.#objects.writeText(`${JSON.stringify(entry)}\n`));
  }

  #set(path: string, after: Oid | undefined): void {
    this.#edits.push({ path, after });
  }
}
