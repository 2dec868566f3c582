import { setTimeout as delay } from 'node:timers/promises';
import { readDocument, readDocumentKey, type DocumentKey, type StoreKey } from '@tokenmirror/core';
import { digestOf, type ChangeLog, type IndexEntry, type LogRecord } from './change-log.js';
import { ABSENT, type PlainPlace } from './log-place.js';

/** A file that was written more recently than this may not be written to its end; a prefix of a config looks like a whole one. */
export const QUIET_MS = 1000;

/** Files that are read at once. */
const EXAMINED_TOGETHER = 64;

export interface ForeignEdit {
  readonly key: DocumentKey;
  /** What the log said when the file was read. */
  readonly entry: IndexEntry | undefined;
  readonly content: string;
  readonly stamp: string;
}

/** A file that is not as the log has it, and not an edit either. */
interface Stray {
  readonly key: DocumentKey;
  /** What the log said when the file was read. */
  readonly entry: IndexEntry | undefined;
  readonly stamp: string;
}

/** Keeps the plain files as the log has them, and finds what others wrote into them. */
export class PlainCopies {
  readonly #place: PlainPlace;
  readonly #log: ChangeLog;
  readonly #comparedEveryMs: number;
  /** Stamps of plain files that hold what the log says, with the number of the change that they hold. */
  readonly #verified = new Map<StoreKey, { readonly stamp: string; readonly sequence: number }>();
  readonly #suspects = new Set<DocumentKey>();
  #comparedAt = -Infinity;

  constructor(place: PlainPlace, log: ChangeLog, comparedEveryMs: number) {
    this.#place = place;
    this.#log = log;
    this.#comparedEveryMs = comparedEveryMs;
  }

  /** Something happened to this file. */
  suspect(key: DocumentKey): void {
    this.#suspects.add(key);
  }

  /** The file holds what the log says. */
  verified(key: DocumentKey, stamp: string): void {
    this.#verified.set(key, { stamp, sequence: this.#log.index.get(key)?.sequence ?? 0 });
  }

  /** What should stand there now, to be asked before the log goes on. */
  expected(key: StoreKey): string | undefined {
    const entry = this.#log.index.get(key);
    return this.#stampOf(key) ?? (entry?.state === 'live' ? entry.copyStamp : ABSENT);
  }

  /** Brings the plain files up to a record of the log. What somebody else wrote in between stays, and is taken with the next comparison. */
  async copyOut({ changes }: Pick<LogRecord, 'changes'>, expected: ReadonlyMap<StoreKey, string | undefined>): Promise<void> {
    await Promise.all(
      changes.map(async ({ key, content }) => {
        const reading = readDocumentKey(key);
        if (reading.ok) await this.#copy(reading.key, content, expected.get(key));
      }),
    );
  }

  /**
   * Finds plain files that others wrote or removed: edits are returned, everything else is put back as the log has it. What is being written is left
   * for the next time, or, for a complete answer, waited for.
   */
  async foreignEdits(complete: boolean): Promise<readonly ForeignEdit[]> {
    const edits = await this.#quietEdits(complete);
    if (!complete || this.#suspects.size === 0) return this.#stillEdits(edits);
    await delay(QUIET_MS);
    const later = await this.#quietEdits(false);
    return this.#stillEdits([...new Map([...edits, ...later].map((edit) => [edit.key, edit])).values()]);
  }

  /** Without those of which the log says something else by now, which are looked at again. */
  #stillEdits(edits: readonly ForeignEdit[]): readonly ForeignEdit[] {
    return edits.filter(({ key, entry }) => {
      const isStill = this.#log.index.get(key) === entry;
      if (!isStill) this.#suspects.add(key);
      return isStill;
    });
  }

  async #quietEdits(complete: boolean): Promise<readonly ForeignEdit[]> {
    const suspects = new Set<DocumentKey>(this.#suspects);
    if (complete || performance.now() - this.#comparedAt > this.#comparedEveryMs) {
      for (const key of await this.#differing()) suspects.add(key);
      this.#comparedAt = performance.now();
    }
    this.#suspects.clear();
    const edits: ForeignEdit[] = [];
    const keys = [...suspects];
    try {
      for (let at = 0; at < keys.length; at += EXAMINED_TOGETHER) {
        const found = await Promise.all(keys.slice(at, at + EXAMINED_TOGETHER).map((key) => this.#examine(key)));
        const differing = found.filter((each) => each !== undefined);
        edits.push(...differing.filter((each) => 'content' in each));
        await this.#putBack(differing.filter((each) => !('content' in each)));
      }
    } catch (error) {
      for (const key of keys) this.#suspects.add(key);
      throw error;
    }
    return edits;
  }

  /** The stamp of the plain file, where it is known to hold what the log says now. */
  #stampOf(key: StoreKey): string | undefined {
    const verified = this.#verified.get(key);
    return verified !== undefined && verified.sequence === this.#log.index.get(key)?.sequence ? verified.stamp : undefined;
  }

  async #differing(): Promise<ReadonlySet<DocumentKey>> {
    const differing = new Set<DocumentKey>();
    const found = await this.#place.scan();
    for (const name of new Set([...found.keys(), ...this.#log.index.keys()])) {
      const reading = readDocumentKey(name);
      if (reading.ok && (found.get(name) ?? ABSENT) !== this.expected(reading.key)) differing.add(reading.key);
    }
    return differing;
  }

  /** Looks at one file, whether it is as the log has it, an edit of somebody, or neither. */
  async #examine(key: DocumentKey): Promise<ForeignEdit | Stray | undefined> {
    const entry = this.#log.index.get(key);
    const reading = await this.#place.read(key, entry?.state === 'live' ? this.#stampOf(key) : undefined);
    if (reading === 'unchanged') return undefined;
    if (reading === undefined) return { key, entry, stamp: ABSENT };
    const digest = digestOf(reading.text);
    if (entry?.state === 'live' && digest === entry.digest) this.verified(key, reading.stamp);
    else if (reading.ageMs < QUIET_MS) this.#suspects.add(key);
    else if (!isKnown(entry, digest) && readDocument(key, reading.text).state === 'document')
      return { key, entry, content: reading.text, stamp: reading.stamp };
    else return { key, entry, stamp: reading.stamp };
    return undefined;
  }

  /** Makes files as the log has them. A change that this process had not heard of explains a difference too: then the file is looked at again. */
  async #putBack(strays: readonly Stray[]): Promise<void> {
    if (strays.length === 0) return;
    await this.#log.refresh();
    await Promise.all(
      strays.map(async ({ key, entry, stamp }) => {
        if (this.#log.index.get(key) === entry) await this.#restore(key, entry, stamp);
        else this.#suspects.add(key);
      }),
    );
  }

  async #restore(key: DocumentKey, entry: IndexEntry | undefined, stamp: string): Promise<void> {
    if (entry === undefined) return;
    if (entry.state === 'deleted') return this.#copy(key, null, stamp);
    const content = (await this.#log.contentsAt([{ sequence: entry.sequence, key }])).get(key);
    if (content !== undefined) await this.#copy(key, content, stamp);
  }

  /** A file that cannot be written (its name is taken by a directory, it belongs to somebody else) is tried again with each comparison: the log is the truth. */
  async #copy(key: DocumentKey, content: string | null, expected: string | undefined): Promise<void> {
    this.#verified.delete(key);
    try {
      if (content === null) {
        if (!(await this.#place.remove(key, expected))) this.#suspects.add(key);
        return;
      }
      const stamp = await this.#place.write(key, content, expected);
      if (stamp === undefined) this.#suspects.add(key);
      else this.verified(key, stamp);
    } catch {
      return;
    }
  }
}

/** True for a content that this key had before: a copy that lags behind the log, not an edit. */
function isKnown(entry: IndexEntry | undefined, digest: string): boolean {
  return entry !== undefined && (entry.digest === digest || entry.versions.some((version) => version.digest === digest));
}
