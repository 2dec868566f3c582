import { DEFAULT_HISTORY_LENGTH } from '@tokenmirror/core';
import { commitMessage, type Told } from './commit-message.js';
import { EntryIndex } from './entry-index.js';
import { GitHistory } from './git-history.js';
import { IgnoreRules } from './ignore-rules.js';
import type { Author, Edit, Objects, Oid, Origin } from './repository.js';
import { Snapshot } from './snapshot.js';

export interface BranchParts {
  readonly origin: Origin;
  readonly objects: Objects;
  readonly author: Author;
  readonly historyLength?: number | undefined;
}

/** The newest commit of the branch that was seen, and the way to the next one. */
export class Branch {
  readonly #parts: BranchParts;
  readonly #snapshot: Snapshot;
  readonly #ignored: IgnoreRules;
  readonly index: EntryIndex;
  readonly history: GitHistory;
  #tip: Oid | undefined;

  constructor(parts: BranchParts) {
    this.#parts = parts;
    this.#snapshot = new Snapshot(parts.objects);
    this.#ignored = new IgnoreRules(this.#snapshot, parts.objects);
    this.index = new EntryIndex(parts.objects);
    this.history = new GitHistory(this.#snapshot, parts.objects, parts.historyLength ?? DEFAULT_HISTORY_LENGTH);
  }

  /** The blob at a path. */
  at(path: string): Oid | undefined {
    return this.#snapshot.files.get(path);
  }

  excludes(path: string): Promise<boolean> {
    return this.#ignored.excludes(path);
  }

  /** Looks for a newer commit, whatever its ancestors. */
  async refresh(): Promise<void> {
    const tip = await this.#parts.origin.latest();
    if (tip !== this.#tip) await this.#moveTo(tip, tip === undefined ? undefined : await this.#parts.objects.treeOf(tip));
  }

  /** Commits on top of what was seen last; `false` when somebody else was first. */
  async commit(edits: readonly Edit[], told: readonly Told[]): Promise<boolean> {
    const { origin, objects, author } = this.#parts;
    const root = await this.#snapshot.edited(edits);
    const commit = await objects.writeCommit(root, this.#tip, author, commitMessage(told));
    if (!(await origin.publish(commit, this.#tip, { edits, written: objects.written }))) return false;
    objects.published();
    await this.#moveTo(commit, root);
    return true;
  }

  async #moveTo(tip: Oid | undefined, root: Oid | undefined): Promise<void> {
    const changed = await this.#snapshot.become(root);
    await this.index.update(this.#snapshot, changed);
    this.#tip = tip;
  }
}
