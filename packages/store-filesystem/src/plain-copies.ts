import { setTimeout as delay } from 'node:timers/promises';
import { readDocument, readDocumentKey, type DocumentKey } from '@tokenmirror/core';
import { digestOf, LARGEST_RECORD, type ChangeLog, type IndexEntry, type LogRecord } from './change-log.js';
import type { PlainTree } from './plain-tree.js';

/** The author of changes that were found in the plain files. */
export const FOREIGN = 'somebody else';

/** How often the plain files are compared with the log, for edits by others, in ms. */
const FOREIGN_SWEEP_MS = 60_000;

/** A file that was written more recently than this may not be written to its end; a prefix of a config looks like a whole one. */
export const QUIET_MS = 1000;

/** Keeps the plain files as the log has them, and makes changes of what others write into them. */
export class PlainCopies {
  readonly #tree: PlainTree;
  readonly #log: ChangeLog;
  /** Stamps of plain files that hold what the log says. */
  readonly #verified = new Map<string, string>();
  readonly #suspects = new Set<DocumentKey>();
  #sweptAt = -Infinity;

  constructor(tree: PlainTree, log: ChangeLog) {
    this.#tree = tree;
    this.#log = log;
  }

  /** Something happened to this file. */
  suspect(key: DocumentKey): void {
    this.#suspects.add(key);
  }

  /** Brings the plain files up to a record of the log. */
  async copyOut({ changes }: LogRecord): Promise<void> {
    await Promise.all(
      changes.map(async ({ key, content }) => {
        const reading = readDocumentKey(key);
        if (reading.ok) await this.#copy(reading.key, content);
      }),
    );
  }

  /**
   * Finds plain files that others wrote or removed: edits become changes, everything else is put back as the log has it. What is being written is left
   * for the next time, or, for a complete answer, waited for.
   */
  async takeForeignChanges(complete: boolean): Promise<void> {
    await this.#takeQuietChanges(complete);
    if (!complete || this.#suspects.size === 0) return;
    await delay(QUIET_MS);
    await this.#takeQuietChanges(false);
  }

  async #takeQuietChanges(complete: boolean): Promise<void> {
    const isDue = performance.now() - this.#sweptAt > FOREIGN_SWEEP_MS;
    const suspects = new Set<DocumentKey>(this.#suspects);
    this.#suspects.clear();
    if (complete || isDue) {
      this.#sweptAt = performance.now();
      const found = this.#tree.scan();
      for (const name of new Set([...found.keys(), ...this.#log.index.keys()])) {
        const reading = readDocumentKey(name);
        if (
          reading.ok &&
          (found.get(name) ?? 'missing') !==
            (this.#verified.get(name) ?? (this.#log.index.get(reading.key)?.state === 'live' ? '' : 'missing'))
        )
          suspects.add(reading.key);
      }
    }
    const edits: LogRecord['changes'][number][] = [];
    for (const key of suspects) {
      const stamp = this.#tree.stampOf(key);
      const entry = this.#log.index.get(key);
      if (stamp !== undefined && stamp === this.#verified.get(key) && entry?.state === 'live') continue;
      if (this.#tree.ageOf(key) < QUIET_MS) {
        this.#suspects.add(key);
        continue;
      }
      const content = this.#tree.read(key);
      const digest = content === undefined ? undefined : digestOf(content);
      if (entry?.state === 'live' && digest === entry.digest) this.#verified.set(key, stamp ?? '');
      else if (content !== undefined && !this.#isKnown(entry, digest) && readDocument(key, content).state === 'document')
        edits.push({ key, content, lineage: entry?.lineage ?? [] });
      else await this.#putBack(key, entry);
    }
    for (let at = 0; at < edits.length; at += LARGEST_RECORD) {
      const record = { at: Date.now(), author: FOREIGN, changes: edits.slice(at, at + LARGEST_RECORD) };
      if (!(await this.#log.append(record))) return;
      for (const { key } of record.changes) this.#verified.set(key, this.#tree.stampOf(key as DocumentKey) ?? '');
    }
  }

  /** True for a content that this key had before: a copy that lags behind the log, not an edit. */
  #isKnown(entry: IndexEntry | undefined, digest: string | undefined): boolean {
    return entry !== undefined && (entry.digest === digest || entry.versions.some((version) => version.digest === digest));
  }

  async #putBack(key: DocumentKey, entry: IndexEntry | undefined): Promise<void> {
    if (entry === undefined) return;
    if (entry.state === 'deleted') return this.#copy(key, null);
    const content = await this.#log.contentAt(entry.sequence, key);
    if (content !== undefined) await this.#copy(key, content);
  }

  /** A file that cannot be written (its name is taken by a directory, it belongs to somebody else) is tried again with each sweep: the log is the truth. */
  async #copy(key: DocumentKey, content: string | null): Promise<void> {
    this.#verified.delete(key);
    try {
      if (content === null) await this.#tree.remove(key);
      else this.#verified.set(key, (await this.#tree.write(key, content)) ?? '');
    } catch {
      return;
    }
  }
}
