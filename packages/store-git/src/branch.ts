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
  #isBroken = false;

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
    if (!(await origin.publish(commit, this.#tip, objects.written))) return false;
    await this.#moveTo(commit, root);
    return true;
  }

  /** True after a move that broke off: nothing here can be relied on any more. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** True where a document of this name would take the place of a directory, or lie in another document. */
  clashes(path: string): boolean {
    const parents = path.split('/').slice(0, -1);
    return this.#snapshot.names(path).length > 0 || parents.some((_, n) => this.#snapshot.files.has(parents.slice(0, n + 1).join('/')));
  }

  async #moveTo(tip: Oid | undefined, root: Oid | undefined): Promise<void> {
    this.#isBroken = true;
    const changed = await this.#snapshot.become(root);
    await this.index.update(this.#snapshot, changed);
    this.#tip = tip;
    this.#isBroken = false;
  }
}
