import { isCredentialKey, readDocumentKey, readRecordKey, shownName, type DocumentKey, type RecordKey } from '../documents/document-key.js';
import { isInUse } from '../planning/base.js';
import type { BaseRecords } from '../ports/base-records.js';
import type { Listing } from '../ports/token-store.js';
import type { RefusedName, ScannedFile, Workspace } from '../ports/workspace.js';
import type { DeletionGate } from './deletion-gate.js';
import { withoutLocal } from './observer.js';
import { sameStat } from './reconciler.js';
import type { StatusBoard } from './status-board.js';

export interface DifferencesParts {
  readonly workspace: Workspace;
  readonly bases: BaseRecords;
  readonly replicaId: string;
  readonly board: StatusBoard;
  readonly gate: DeletionGate;
  /** Told of every record of ours that changed in the store. */
  readonly recordChanged: (key: RecordKey) => void;
}

/** Finds the documents that are not as they were last seen, from names, stat hints and revisions alone; no content is read. */
export class Differences {
  readonly #parts: DifferencesParts;

  constructor(parts: DifferencesParts) {
    this.#parts = parts;
  }

  /** On either side, by a listing of the store. */
  async anywhere(listing: Listing): Promise<Set<DocumentKey>> {
    return new Set([...this.inStore(listing), ...(await this.inWorkspace())]);
  }

  /** In the store; documents that a complete listing lacks are among them. */
  inStore(listing: Listing): Set<DocumentKey> {
    const { bases } = this.#parts;
    const differing = this.#listedOtherwise(listing);
    if (!listing.complete) return differing;
    const listed = new Set<string>(listing.entries.map(({ name }) => name));
    for (const key of bases.keys()) if (!listed.has(key) && bases.get(key)?.remote !== undefined) differing.add(key);
    return differing;
  }

  /** In the workspace, which is marked as ours on the way. A missing one differs in nothing. */
  async inWorkspace(): Promise<Set<DocumentKey>> {
    const { workspace, replicaId, board } = this.#parts;
    const presence = workspace.presence();
    if (presence === 'missing') {
      board.note({ type: 'workspace-missing' });
      return new Set();
    }
    if (presence === 'unmarked') {
      await this.#rehydrate();
      await workspace.mark(replicaId);
    }
    board.workspaceFound();
    return this.files(presence === 'unmarked');
  }

  /** The documents whose file is not as it was last seen; with `all`, also those that are absent and were so before. */
  async files(all: boolean): Promise<Set<DocumentKey>> {
    const { workspace, bases, board, gate } = this.#parts;
    const differing = new Set<DocumentKey>();
    const { files, refused } = await workspace.scan();
    board.refusedNames('workspace', refused);
    const seen = new Set<DocumentKey>();
    for (const file of files) {
      seen.add(file.key);
      if (!this.#isUntouched(file) || workspace.keepsReplaced(file.key)) differing.add(file.key);
    }
    for (const key of bases.keys()) {
      if (seen.has(key)) continue;
      const base = bases.get(key);
      if (base?.local !== undefined || all || !isInUse(base)) differing.add(key);
      else gate.withdraw(key);
    }
    return differing;
  }

  #isUntouched({ key, stat }: ScannedFile): boolean {
    const local = this.#parts.bases.get(key)?.local;
    return local?.stat !== undefined && sameStat(local.stat, stat);
  }

  #listedOtherwise(listing: Listing): Set<DocumentKey> {
    const { bases, gate, board, recordChanged } = this.#parts;
    const differing = new Set<DocumentKey>();
    const refused: RefusedName[] = [];
    for (const { name, state, revision } of listing.entries) {
      const record = readRecordKey(name);
      if (record !== undefined) {
        recordChanged(record);
        continue;
      }
      const reading = readDocumentKey(name);
      if (!reading.ok) {
        if (!reading.ignored) refused.push({ name: shownName(name), reason: reading.reason });
        continue;
      }
      const base = bases.get(reading.key);
      const isKnown = base?.remote?.revision === revision && state !== 'absent' && base.local !== undefined;
      const isGone = state === 'deleted' && !isInUse(base) && !gate.frozen.includes(reading.key);
      if (!isKnown && !isGone) differing.add(reading.key);
    }
    if (listing.complete || refused.length > 0) board.refusedNames('store', refused);
    return differing;
  }

  /** The auth directory lost its marker: what is not in it was not deleted by anyone, and comes back from the store. */
  async #rehydrate(): Promise<void> {
    const { bases, board } = this.#parts;
    const lost = [...bases.keys()].filter((key) => isCredentialKey(key) && bases.get(key)?.local !== undefined);
    if (lost.length === 0) return;
    board.note({ type: 'rehydrating' });
    for (const key of lost) {
      const base = bases.get(key);
      if (base !== undefined) await bases.set(withoutLocal(base));
    }
  }
}
