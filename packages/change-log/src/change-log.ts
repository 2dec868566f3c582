import { hash, randomUUID } from 'node:crypto';
import { CURRENT_FORMAT, readDocumentKey, TokenmirrorError, type DocumentKey, type Fingerprint, type StoreKey } from '@tokenmirror/core';
import type { LogPlace } from './log-place.js';
import { parseStamped } from './stamped-json.js';

/** One file of the log: changes that happened together, by one author. */
export interface LogRecord {
  readonly at: number;
  readonly author: string;
  /** Tells two records apart that are equal otherwise. */
  readonly nonce: string;
  readonly changes: readonly LoggedChange[];
  /** A content that lost a merge; it changes nothing. */
  readonly archived?: { readonly key: DocumentKey; readonly content: string; readonly reason: string };
}

export interface LoggedChange {
  readonly key: StoreKey;
  readonly content: string | null;
  readonly lineage: readonly Fingerprint[];
}

/** What the log says of one key. */
export interface IndexEntry {
  readonly sequence: number;
  /** Of the record: a log that was restored from a copy gives its numbers out again. */
  readonly nonce: string;
  readonly state: 'live' | 'deleted';
  readonly lineage: readonly Fingerprint[];
  /** SHA-256 of the live content, or of the last one. */
  readonly digest: string;
  /** The stamp of a plain copy of the live content, where the place can tell. */
  readonly copyStamp?: string;
  readonly versions: readonly KeptVersion[];
}

export interface KeptVersion {
  readonly sequence: number;
  readonly at: number;
  readonly reason: string;
  readonly author: string;
  readonly digest: string;
}

/** Changes that go into one file of the log at most. */
export const LARGEST_RECORD = 128;
/** Characters of content that go into one file of the log at most, unless one document alone has more. */
export const LONGEST_RECORD = 1024 * 1024;

const CHECKPOINT = 'checkpoint.json';
const FOLDER = 'log';
const CHECKPOINT_EVERY = 256;
/** Log files that nothing refers to stay for a day, so that no number is given out twice to a process that was slow. */
const KEPT_MS = 24 * 3_600_000;
/** A pause between a look at the log and an append that is longer than this casts doubt on the look. */
const LONGEST_PAUSE_MS = 3_600_000;
/** Files of the log that are fetched at once. */
const FETCHED_TOGETHER = 32;

/**
 * The sequence of all changes, one file each, numbered without gaps. A change happens when its file is created under the next number, which the
 * place grants to one process only: that is the compare-and-set, without a lock to hold or to lose. The index is derived from
 * the log, and saved now and then as a checkpoint, behind which files that nothing refers to are removed.
 */
export class ChangeLog {
  readonly #place: LogPlace;
  readonly #shown: string;
  readonly #historyLength: number;
  readonly #stampFor: ((content: string) => string) | undefined;
  readonly index = new Map<StoreKey, IndexEntry>();
  #head = 0;
  #headStamp: string | undefined;
  #checkpointAt = 0;
  #checkpointStamp: string | undefined;
  #refreshedAt = 0;
  #checkpointTriedAt = 0;
  #epoch = randomUUID();

  constructor(
    place: LogPlace,
    options: { readonly shown: string; readonly historyLength: number; readonly stampFor: ((content: string) => string) | undefined },
  ) {
    this.#place = place;
    this.#shown = options.shown;
    this.#historyLength = options.historyLength;
    this.#stampFor = options.stampFor;
  }

  get head(): number {
    return this.#head;
  }

  /** Changes when the log turned out to be another one than it was: positions in it from before mean nothing. */
  get epoch(): string {
    return this.#epoch;
  }

  /**
   * Applies what other processes appended, at least up to the number that was `announced`. O(changes). A log whose last file is gone or another one
   * was restored from a copy, and is read anew.
   */
  async refresh(announced = 0): Promise<void> {
    this.seen();
    await this.#followCheckpoint();
    for (;;) {
      const next = this.#head + 1;
      const count = Math.max(1, Math.min(FETCHED_TOGETHER, announced - this.#head));
      const records = await Promise.all(Array.from({ length: count }, (_, n) => this.#read(next + n)));
      const gap = records.indexOf(undefined);
      for (const found of gap === -1 ? records : records.slice(0, gap))
        if (found !== undefined) this.#apply(this.#head + 1, found.record, found.stamp);
      // A file that is missing may have been cleaned up behind a newer checkpoint meanwhile.
      if (gap !== -1 && !(await this.#followCheckpoint())) break;
    }
    if (this.#head < announced) {
      throw new TokenmirrorError(
        'STORE_UNREACHABLE',
        `the store ${this.#shown} lacks files of its log (number ${String(this.#head + 1)} of ${String(announced)})`,
        'Restore them from a copy, or mirror into a new store.',
      );
    }
  }

  /** The place was found unchanged just now. */
  seen(): void {
    this.#refreshedAt = Date.now();
  }

  /**
   * Appends if the log has not grown since the last refresh; `false` when another process was first, or when so much time passed (a machine that
   * slept) that the number may have been used and cleaned up meanwhile. Then the next refresh tells what happened.
   */
  async append(change: Omit<LogRecord, 'nonce'>): Promise<boolean> {
    const record: LogRecord = { ...change, nonce: randomUUID() };
    const sequence = this.#head + 1;
    const stamp = await this.#place.create(nameOf(sequence), JSON.stringify({ ...CURRENT_FORMAT, ...record }));
    if (stamp === undefined || Date.now() - this.#refreshedAt > LONGEST_PAUSE_MS) return false;
    this.#apply(sequence, record, stamp);
    if (this.#head - Math.max(this.#checkpointAt, this.#checkpointTriedAt) >= Math.max(CHECKPOINT_EVERY, this.index.size / 10)) {
      this.#checkpointTriedAt = this.#head;
      // The change has happened, whatever becomes of its abridgement.
      await this.#saveCheckpoint().catch(() => undefined);
    }
    return true;
  }

  /** The contents that these changes, or archived versions, gave to their keys; the files of the log are read once each. */
  async contentsAt<Key extends StoreKey>(
    wanted: readonly { readonly sequence: number; readonly key: Key }[],
  ): Promise<ReadonlyMap<Key, string>> {
    const contents = new Map<Key, string>();
    const bySequence = new Map<number, Key[]>();
    for (const { sequence, key } of wanted) bySequence.set(sequence, [...(bySequence.get(sequence) ?? []), key]);
    const take = async ([sequence, keys]: readonly [number, readonly Key[]]): Promise<void> => {
      const record = (await this.#read(sequence))?.record;
      for (const key of keys) {
        const content =
          record?.archived?.key === key ? record.archived.content : record?.changes.find((change) => change.key === key)?.content;
        if (typeof content === 'string') contents.set(key, content);
      }
    };
    const files = [...bySequence];
    for (let at = 0; at < files.length; at += FETCHED_TOGETHER) await Promise.all(files.slice(at, at + FETCHED_TOGETHER).map(take));
    return contents;
  }

  #apply(sequence: number, { at, author, nonce, changes, archived }: LogRecord, stamp: string): void {
    for (const { key, content, lineage } of changes) {
      const before = this.index.get(key);
      const digest = content === null ? (before?.digest ?? '') : digestOf(content);
      const replaces = before?.state === 'live' && (content === null || digest !== before.digest) && readDocumentKey(key).ok;
      const version = {
        sequence: before?.sequence ?? 0,
        at,
        author,
        digest: before?.digest ?? '',
        reason: content === null ? 'deleted' : 'replaced',
      };
      const versions = replaces ? this.#keep(before.versions, version) : (before?.versions ?? []);
      const copyStamp = content === null ? undefined : this.#stampFor?.(content);
      this.index.set(key, {
        sequence,
        nonce,
        state: content === null ? 'deleted' : 'live',
        lineage,
        digest,
        ...(copyStamp === undefined ? {} : { copyStamp }),
        versions,
      });
    }
    if (archived !== undefined) {
      const before = this.index.get(archived.key);
      if (before !== undefined) {
        const version = { sequence, at, author, digest: digestOf(archived.content), reason: archived.reason };
        this.index.set(archived.key, { ...before, versions: this.#keep(before.versions, version) });
      }
    }
    this.#head = sequence;
    this.#headStamp = stamp;
  }

  /** Takes in a checkpoint that is not the one that was seen; `false` when nothing changed. The log is forgotten when it is another one than it was. */
  async #followCheckpoint(): Promise<boolean> {
    const head = this.#head;
    const [stamp, headStamp] = await Promise.all([
      this.#place.stampOf(CHECKPOINT),
      head > this.#checkpointAt ? this.#place.stampOf(nameOf(head)) : undefined,
    ]);
    const isReplaced = head > this.#checkpointAt && headStamp !== this.#headStamp;
    if (stamp === this.#checkpointStamp && !isReplaced) return false;
    const before = this.#checkpointAt;
    await this.#loadCheckpoint(stamp);
    if ((isReplaced && this.#head === head) || this.#checkpointAt < before) {
      this.#forget();
      await this.#loadCheckpoint(stamp);
    }
    return true;
  }

  #forget(): void {
    this.index.clear();
    this.#head = 0;
    this.#checkpointAt = 0;
    this.#checkpointTriedAt = 0;
    this.#epoch = randomUUID();
  }

  #keep(versions: readonly KeptVersion[], version: KeptVersion): readonly KeptVersion[] {
    return [version, ...versions].slice(0, this.#historyLength);
  }

  async #read(sequence: number): Promise<{ readonly record: LogRecord; readonly stamp: string } | undefined> {
    const reading = await this.#place.read(nameOf(sequence));
    if (reading === undefined || reading === 'unchanged') return undefined;
    return { record: parseStamped<LogRecord>(reading.text, `${nameOf(sequence)} in ${this.#shown}`), stamp: reading.stamp };
  }

  async #loadCheckpoint(stamp: string | undefined): Promise<void> {
    this.#checkpointStamp = stamp;
    this.#checkpointAt = 0;
    const reading = stamp === undefined ? undefined : await this.#place.read(CHECKPOINT);
    if (reading === undefined || reading === 'unchanged') return;
    const saved = parseStamped<{ sequence: number; entries: [StoreKey, IndexEntry][] }>(reading.text, `${CHECKPOINT} in ${this.#shown}`);
    this.#checkpointAt = saved.sequence;
    if (saved.sequence <= this.#head) return;
    this.index.clear();
    for (const [key, entry] of saved.entries) this.index.set(key, entry);
    this.#head = saved.sequence;
  }

  async #saveCheckpoint(): Promise<void> {
    const text = JSON.stringify({ ...CURRENT_FORMAT, sequence: this.#head, entries: [...this.index] });
    const before = this.#checkpointStamp;
    const stamp = await (before === undefined ? this.#place.create(CHECKPOINT, text) : this.#place.replace(CHECKPOINT, text, before));
    if (stamp === undefined) return;
    this.#checkpointStamp = stamp;
    this.#checkpointAt = this.#head;
    const referred = new Set(
      [...this.index.values()].flatMap((entry) => [entry.sequence, ...entry.versions.map(({ sequence }) => sequence)]),
    );
    const superfluous = (await this.#place.list(FOLDER)).filter(({ name, ageMs }) => {
      const sequence = sequenceOf(name);
      return sequence !== undefined && sequence < this.#head && !referred.has(sequence) && ageMs > KEPT_MS;
    });
    await this.#place.remove(superfluous.map(({ name }) => name));
  }
}

export function digestOf(content: string): string {
  return hash('sha256', content, 'base64url');
}

function nameOf(sequence: number): string {
  return `${FOLDER}/${String(sequence).padStart(12, '0')}.json`;
}

function sequenceOf(name: string): number | undefined {
  const digits = /^log\/(\d{12})\.json$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}
