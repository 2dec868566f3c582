import type { DocumentKey, StoreKey } from '../documents/document-key.js';
import type { Lineage } from '../planning/lineage.js';

declare const revisionBrand: unique symbol;
declare const cursorBrand: unique symbol;

/** An opaque token that changes with every write of an entry, a foreign one included, and never returns to an earlier value. */
export type Revision = string & { readonly [revisionBrand]: 'revision' };

/** An opaque position in a store's sequence of changes. */
export type Cursor = string & { readonly [cursorBrand]: 'cursor' };

/** The replicas of one store. `key` is secret: hashes that replicas compare are keyed with it. */
export interface ClusterIdentity {
  readonly id: string;
  readonly key: string;
}

export interface LiveEntry {
  readonly state: 'live';
  readonly key: StoreKey;
  readonly revision: Revision;
  /** As it was written, or an equal text (JSONB reorders keys). Foreign content is handed over as it is. */
  readonly content: string;
  readonly lineage: Lineage;
}

export interface Tombstone {
  readonly state: 'deleted';
  readonly key: StoreKey;
  readonly revision: Revision;
  readonly lineage: Lineage;
}

export type Entry = LiveEntry | Tombstone;

export interface EntrySummary {
  /** Not trusted: it may come from a foreign writer. */
  readonly name: string;
  readonly state: 'live' | 'deleted' | 'absent';
  readonly revision: Revision;
}

export interface Listing {
  readonly entries: readonly EntrySummary[];
  readonly cursor: Cursor;
  /** True when these are all entries there are, false when these are the ones that changed. */
  readonly complete: boolean;
}

/** One compare-and-set. `expected` is the revision last seen, or `absent` where there is neither a document nor a tombstone. */
export interface Change {
  readonly key: StoreKey;
  readonly expected: Revision | 'absent';
  /** The new content, or `null` for a tombstone. */
  readonly content: string | null;
  readonly lineage: Lineage;
}

/** A refused compare-and-set is an expected outcome: the writer reads again and plans again. */
export type WriteOutcome =
  | { readonly status: 'written'; readonly revision: Revision }
  | { readonly status: 'refused' }
  /** This content cannot be kept by this store, whatever the revision. */
  | { readonly status: 'unacceptable'; readonly reason: string };

/**
 * A place that keeps documents, and records of ours beside them. This comment and those below are the contract; the conformance suite
 * (`@tokenmirror/store-conformance`) is its proof.
 *
 * - A key is in one of three states: live, deleted (a tombstone, kept through restarts) or absent.
 * - Every write is a compare-and-set on one key. Of any number of writers with the same `expected`, in any number of processes,
 *   exactly one is answered `written`. A failed call (an exception) leaves open whether it happened: read before trying again.
 * - A write that was answered survives a crash of the process, and is seen by every later `read` and `list` of any process.
 * - An outage is an exception with code STORE_UNREACHABLE; it passes, and the same object works again without being reopened.
 * - A store that lost its cluster id while it is open answers STORE_UNREACHABLE: that is an outage, never an empty store.
 * - Foreign writes (by CLIProxyAPI, by a person) get a new revision and appear in `list`. A foreign deletion is a tombstone where the
 *   store can tell, else `absent`.
 * - Errors and logs never contain content, keys or passwords.
 */
export interface TokenStore {
  /** Kind and place as it may be shown, for example `postgres://db.example/cliproxy (schema public)`. No password. */
  readonly description: string;

  /**
   * Connects. With `create`, makes what is missing (tables, directory, cluster id) and nothing else; data written by CLIProxyAPI is
   * adopted as it is. Without it, changes nothing and returns `undefined` where Tokenmirror has never been; `list` and `read` then
   * show what is there.
   * @throws TokenmirrorError FORMAT_NEWER, STORE_DENIED, STORE_UNREACHABLE, STORE_UNSUITABLE
   */
  open(mode: 'create' | 'look'): Promise<ClusterIdentity | undefined>;

  /** What changed after the cursor, in no particular order; everything without a cursor, or with one that is no longer understood. O(changed). */
  list(since?: Cursor): Promise<Listing>;

  /** The entries of these keys; absent ones are missing from the answer. */
  read(keys: readonly StoreKey[]): Promise<ReadonlyMap<StoreKey, Entry>>;

  /**
   * Carries out each change for itself, or with `together` all of them or none; outcomes stand in the order of the changes. `author` (a replica id) goes into
   * the history.
   */
  write(changes: readonly Change[], author: string, how?: 'together'): Promise<readonly WriteOutcome[]>;

  /** ms since the epoch by the store's own clock, or by the one that its replicas have in common. Ages of claims are told by it. */
  now(): Promise<number>;

  close(): Promise<void>;

  /** Calls back soon after any change; only a hint, it may be lost or come for nothing. Without it the store is polled. */
  watch?(hint: () => void): Promise<StopWatching>;

  readonly history?: History;
}

export type StopWatching = () => Promise<void>;

/** A kept version of a document. */
export interface Version {
  readonly id: string;
  /** When it was replaced, deleted or archived; ms since the epoch, by the store's clock. */
  readonly at: number;
  /** `replaced` and `deleted` are kept by the store on every write, foreign ones included; others were archived by an engine. */
  readonly reason: string;
  readonly author: string | undefined;
}

/** The last versions of each document. Optional: a store that cannot keep them has no such property. */
export interface History {
  /** Newest first. The current content is not among them. */
  versions(key: DocumentKey): Promise<readonly Version[]>;
  content(key: DocumentKey, id: string): Promise<string | undefined>;
  /** Keeps a content that lost, without touching the document. */
  archive(key: DocumentKey, content: string, reason: string, author: string): Promise<void>;
}

/** Default for the versions kept of each document. */
export const DEFAULT_HISTORY_LENGTH = 20;
