import { TokenmirrorError, type Fingerprint, type StoreKey } from '@tokenmirror/core';
import { hashOf, nameAt, readEntryPath, type KeyHash } from './layout.js';
import { parseOwn } from './own-json.js';
import type { Objects, Oid } from './repository.js';
import type { Snapshot } from './snapshot.js';

/** What a commit says of one document or record. */
export interface Standing {
  /** Not trusted. */
  readonly name: string;
  readonly keyHash: KeyHash;
  /** The blob that stands there. */
  readonly content: Oid | undefined;
  /** The blob of its entry, and the content that this belongs to. */
  readonly entry: { readonly oid: Oid; readonly path: string; readonly content: Oid | undefined } | undefined;
}

/** What an entry file says. */
export interface StoredEntry {
  readonly key: StoreKey;
  readonly lineage: readonly Fingerprint[];
  /** Makes each entry another one. */
  readonly nonce: string;
}

/** Every document and record of the current commit, and when each of them changed, counted in moves from commit to commit. */
export class EntryIndex {
  readonly #objects: Objects;
  readonly #standings = new Map<KeyHash, Standing>();
  readonly #changedAt = new Map<KeyHash, number>();
  /** Names whose hash was met, for those that are gone. */
  readonly #names = new Map<KeyHash, string>();
  #moves = 0;

  constructor(objects: Objects) {
    this.#objects = objects;
  }

  get position(): number {
    return this.#moves;
  }

  /** Takes in what changed from one commit to the next. */
  async update(snapshot: Snapshot, changed: ReadonlySet<string>): Promise<void> {
    if (changed.size === 0) return;
    const touched = new Map<KeyHash, { content?: string; entries: string[] }>();
    const touch = (keyHash: KeyHash): { content?: string; entries: string[] } => {
      const found = touched.get(keyHash) ?? { entries: [] };
      touched.set(keyHash, found);
      return found;
    };
    for (const path of changed) {
      const entry = readEntryPath(path);
      const name = entry === undefined ? nameAt(path) : undefined;
      if (entry !== undefined) touch(entry.keyHash).entries.push(path);
      else if (name !== undefined) {
        const keyHash = hashOf(name);
        this.#names.set(keyHash, name);
        touch(keyHash).content = path;
      }
    }
    this.#moves += 1;
    for (const [keyHash, { content, entries }] of touched) {
      const before = this.#standings.get(keyHash);
      const oid = content === undefined ? before?.content : snapshot.files.get(content);
      const path = [...entries, ...(before?.entry === undefined ? [] : [before.entry.path])].find((each) => snapshot.files.has(each));
      const entryOid = path === undefined ? undefined : snapshot.files.get(path);
      const entry = path === undefined || entryOid === undefined ? undefined : { oid: entryOid, path, content: readEntryPath(path)?.blob };
      this.#changedAt.set(keyHash, this.#moves);
      const name = this.#names.get(keyHash) ?? (entryOid === undefined ? undefined : await this.#nameIn(entryOid));
      if (name !== undefined) this.#names.set(keyHash, name);
      if (name === undefined || (oid === undefined && entry === undefined)) this.#standings.delete(keyHash);
      else this.#standings.set(keyHash, { name, keyHash, content: oid, entry });
    }
  }

  get(key: StoreKey): Standing | undefined {
    return this.#standings.get(hashOf(key));
  }

  all(): Iterable<Standing> {
    return this.#standings.values();
  }

  /** What changed after a position; `undefined` standings are gone without a trace. */
  since(position: number): readonly { readonly name: string; readonly standing: Standing | undefined }[] {
    return [...this.#changedAt]
      .filter(([, at]) => at > position)
      .map(([keyHash]) => ({ name: this.#names.get(keyHash) ?? '', standing: this.#standings.get(keyHash) }));
  }

  /** Kept through a change by somebody else. */
  async lineageOf({ entry }: Standing): Promise<readonly Fingerprint[]> {
    return entry === undefined ? [] : (await this.#stored(entry.oid)).lineage;
  }

  async #stored(oid: Oid): Promise<StoredEntry> {
    return parseOwn(await this.#objects.text(oid), 'an entry below .tokenmirror/entries') as StoredEntry;
  }

  /** An entry that cannot be read (somebody merged by hand) costs its own document only. */
  async #nameIn(oid: Oid): Promise<string | undefined> {
    try {
      return (await this.#stored(oid)).key;
    } catch (error) {
      if (error instanceof TokenmirrorError) return undefined;
      throw error;
    }
  }
}

/** True for a content that somebody else wrote or removed. */
export function isForeign({ content, entry }: Standing): boolean {
  return entry === undefined || entry.content !== content;
}
