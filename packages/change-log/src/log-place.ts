import type { DocumentKey, StoreKey } from '@tokenmirror/core';

/** A text, with a stamp that changes whenever it is written. */
export interface Stamped {
  readonly text: string;
  readonly stamp: string;
}

/** What to read again: everything, or only what has another stamp. */
export type Reading<File extends Stamped = Stamped> = File | 'unchanged' | undefined;

export interface ListedFile {
  readonly name: string;
  readonly ageMs: number;
}

/** Where a log is kept: files of ours by `/`-separated names such as `cluster.json` or `log/000000000001.json`. Files are whole and durable when a call is answered. */
export interface LogPlace {
  /** True where every look costs: each append is then announced in `cluster.json`, and as long as that is unchanged nothing else is asked for. */
  readonly isAnnounced: boolean;
  /** Makes what must be there before the first file is made. @throws TokenmirrorError STORE_UNSUITABLE */
  prepare(): Promise<void>;
  /** Makes a file and returns its stamp; `undefined` when there is one of that name. Of any number that try, one succeeds. */
  create(name: string, text: string): Promise<string | undefined>;
  read(name: string, unless?: string): Promise<Reading>;
  /** `undefined` when there is no such file. */
  stampOf(name: string): Promise<string | undefined>;
  /** Writes a file, with `expected` only over the one that has this stamp; `undefined` when it has not. */
  replace(name: string, text: string, expected?: string): Promise<string | undefined>;
  list(folder: string): Promise<readonly ListedFile[]>;
  remove(names: readonly string[]): Promise<void>;
  /** ms since the epoch by the clock of the place. */
  now(): Promise<number>;
}

/** The stamp of what is not there. */
export const ABSENT = 'absent';

export interface PlainFile extends Stamped {
  /** How long ago it was written, in ms; infinite where nobody can see it half written. */
  readonly ageMs: number;
}

/** Where the documents stand as ordinary files, for people, for backups, and for CLIProxyAPI to start from. */
export interface PlainPlace {
  /** Every document there is, by name, with its stamp. */
  scan(): Promise<ReadonlyMap<string, string>>;
  /** The stamp that a copy of this content will have, where the place can tell. */
  readonly stampFor?: (content: string) => string;
  read(key: DocumentKey, unless?: string): Promise<Reading<PlainFile>>;
  /** `expected` is the stamp of what should stand there, `ABSENT`, or `undefined` for whatever it is; returns `undefined` when it is something else. */
  write(key: DocumentKey, content: string, expected: string | undefined): Promise<string | undefined>;
  /** `false` when something else stands there. */
  remove(key: DocumentKey, expected: string | undefined): Promise<boolean>;
}

/** A place with all that a store needs. */
export interface StorePlace {
  readonly description: string;
  readonly log: LogPlace;
  readonly plain: PlainPlace;
  /** The plain files where Tokenmirror has never been, if they may lie otherwise. */
  readonly bare?: PlainPlace;
  /** Why a document of that name cannot be kept here. */
  objection(key: StoreKey): string | undefined;
  /** How often the plain files are compared with the log, for edits by others, in ms. */
  readonly comparedEveryMs: number;
  /** Turns what the place throws into an error with a remedy. */
  explain(error: unknown): unknown;
}
