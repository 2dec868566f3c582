import { hash, randomUUID } from 'node:crypto';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { checkFormat, CURRENT_FORMAT, TokenmirrorError, type DocumentKey, type Fingerprint, type StoreKey } from '@tokenmirror/core';
import { createFile, hasCode, makeDirectory, replaceFile, syncDirectory } from '@tokenmirror/files';

/** One file of the log: changes that happened together, by one author. */
export interface LogRecord {
  readonly at: number;
  readonly author: string;
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
  readonly state: 'live' | 'deleted';
  readonly lineage: readonly Fingerprint[];
  /** SHA-256 of the live content, or of the last one. */
  readonly digest: string;
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

const CHECKPOINT_EVERY = 256;
/** Log files that nothing refers to stay for a day, so that no number is given out twice to a process that was slow. */
const KEPT_MS = 24 * 3_600_000;
/** A pause between a look at the log and an append that is longer than this casts doubt on the look. */
const LONGEST_PAUSE_MS = 3_600_000;

/**
 * The sequence of all changes, one file each, numbered without gaps. A change happens when its file is created under the next number, which the
 * file system grants to one process only: that is the compare-and-set, without a lock to hold or to lose. The index is derived from
 * the log, and saved now and then as a checkpoint, behind which files that nothing refers to are removed.
 */
export class ChangeLog {
  readonly #directory: string;
  readonly #checkpoint: string;
  readonly #historyLength: number;
  readonly index = new Map<StoreKey, IndexEntry>();
  #head = 0;
  #headStamp = '';
  #checkpointAt = 0;
  #checkpointStat = '';
  #refreshedAt = 0;
  #epoch = randomUUID();

  constructor(directory: string, historyLength: number) {
    this.#directory = join(directory, 'log');
    this.#checkpoint = join(directory, 'checkpoint.json');
    this.#historyLength = historyLength;
  }

  get head(): number {
    return this.#head;
  }

  /** Changes when the log turned out to be another one than it was: positions in it from before mean nothing. */
  get epoch(): string {
    return this.#epoch;
  }

  get directory(): string {
    return this.#directory;
  }

  async create(): Promise<void> {
    await makeDirectory(this.#directory);
  }

  /**
   * Applies what other processes appended. O(changes); a few `stat` calls when there are none. A log whose last file is gone or another one was
   * restored from a copy, and is read anew.
   */
  async refresh(): Promise<void> {
    this.#refreshedAt = Date.now();
    const stamp = await stampOf(this.#checkpoint);
    if (stamp !== this.#checkpointStat) await this.#loadCheckpoint(stamp);
    if (this.#head > this.#checkpointAt && (await stampOf(this.#pathOf(this.#head))) !== this.#headStamp) {
      this.#forget();
      await this.#loadCheckpoint(stamp);
    }
    for (;;) {
      const record = await this.#read(this.#head + 1);
      if (record === undefined) return;
      await this.#apply(this.#head + 1, record);
    }
  }

  /**
   * Appends if the log has not grown since the last refresh; `false` when another process was first, or when so much time passed (a machine that
   * slept) that the number may have been used and cleaned up meanwhile. Then the next refresh tells what happened.
   */
  async append(record: LogRecord): Promise<boolean> {
    const sequence = this.#head + 1;
    if (!(await createFile(this.#pathOf(sequence), JSON.stringify({ ...CURRENT_FORMAT, ...record })))) return false;
    await syncDirectory(this.#directory);
    if (Date.now() - this.#refreshedAt > LONGEST_PAUSE_MS) return false;
    await this.#apply(sequence, record);
    if (this.#head - this.#checkpointAt >= Math.max(CHECKPOINT_EVERY, this.index.size / 10)) await this.#saveCheckpoint();
    return true;
  }

  /** The content that a change, or an archived version, gave to a key. */
  async contentAt(sequence: number, key: StoreKey): Promise<string | undefined> {
    const record = await this.#read(sequence);
    if (record?.archived?.key === key) return record.archived.content;
    return record?.changes.find((change) => change.key === key)?.content ?? undefined;
  }

  async #apply(sequence: number, { at, author, changes, archived }: LogRecord): Promise<void> {
    for (const { key, content, lineage } of changes) {
      const before = this.index.get(key);
      const digest = content === null ? (before?.digest ?? '') : digestOf(content);
      const replaces = before?.state === 'live' && (content === null || digest !== before.digest);
      const version = {
        sequence: before?.sequence ?? 0,
        at,
        author,
        digest: before?.digest ?? '',
        reason: content === null ? 'deleted' : 'replaced',
      };
      const versions = replaces ? this.#keep(before.versions, version) : (before?.versions ?? []);
      this.index.set(key, { sequence, state: content === null ? 'deleted' : 'live', lineage, digest, versions });
    }
    if (archived !== undefined) {
      const before = this.index.get(archived.key);
      if (before !== undefined) {
        const version = { sequence, at, author, digest: digestOf(archived.content), reason: archived.reason };
        this.index.set(archived.key, { ...before, versions: this.#keep(before.versions, version) });
      }
    }
    this.#head = sequence;
    this.#headStamp = await stampOf(this.#pathOf(sequence));
  }

  #forget(): void {
    this.index.clear();
    this.#head = 0;
    this.#checkpointAt = 0;
    this.#epoch = randomUUID();
  }

  #keep(versions: readonly KeptVersion[], version: KeptVersion): readonly KeptVersion[] {
    return [version, ...versions].slice(0, this.#historyLength);
  }

  async #read(sequence: number): Promise<LogRecord | undefined> {
    const path = this.#pathOf(sequence);
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw error;
    }
    return parseStamped<LogRecord>(text, path);
  }

  async #loadCheckpoint(stamp: string): Promise<void> {
    this.#checkpointStat = stamp;
    this.#checkpointAt = 0;
    if (stamp === '') return;
    const saved = parseStamped<{ sequence: number; entries: [StoreKey, IndexEntry][] }>(
      await readFile(this.#checkpoint, 'utf8'),
      this.#checkpoint,
    );
    this.#checkpointAt = saved.sequence;
    if (saved.sequence <= this.#head) return;
    this.index.clear();
    for (const [key, entry] of saved.entries) this.index.set(key, entry);
    this.#head = saved.sequence;
  }

  async #saveCheckpoint(): Promise<void> {
    await replaceFile(this.#checkpoint, JSON.stringify({ ...CURRENT_FORMAT, sequence: this.#head, entries: [...this.index] }));
    this.#checkpointAt = this.#head;
    this.#checkpointStat = await stampOf(this.#checkpoint);
    const referred = new Set(
      [...this.index.values()].flatMap((entry) => [entry.sequence, ...entry.versions.map(({ sequence }) => sequence)]),
    );
    for (const name of await readdir(this.#directory)) {
      const sequence = Number(/^(\d{12})\.json$/.exec(name)?.[1] ?? NaN);
      if (!(sequence < this.#head) || referred.has(sequence)) continue;
      const path = join(this.#directory, name);
      const age = Date.now() - ((await stat(path).catch(() => undefined))?.mtimeMs ?? Date.now());
      if (age > KEPT_MS) await rm(path, { force: true });
    }
  }

  #pathOf(sequence: number): string {
    return join(this.#directory, `${String(sequence).padStart(12, '0')}.json`);
  }
}

export function digestOf(content: string): string {
  return hash('sha256', content, 'base64url');
}

export async function stampOf(path: string): Promise<string> {
  try {
    const { ino, mtimeNs, size } = await stat(path, { bigint: true });
    return `${String(ino)}:${String(mtimeNs)}:${String(size)}`;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return '';
    throw error;
  }
}

/** @throws TokenmirrorError FORMAT_DAMAGED, FORMAT_NEWER; never with a part of the text */
export function parseStamped<T>(text: string, path: string): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new TokenmirrorError(
      'FORMAT_DAMAGED',
      `${path} is damaged`,
      'Restore the store directory from a copy, or mirror into a new one.',
      { cause },
    );
  }
  checkFormat(value, path);
  return value as T;
}
