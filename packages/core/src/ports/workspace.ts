import type { Document } from '../documents/document.js';
import type { DocumentKey } from '../documents/document-key.js';
import type { StatHint } from '../planning/base.js';

/** A file, looked at until it was stable. */
export type LocalReading =
  /** `text` is what stands there to the letter, to be given back as `expected` in a write. */
  | {
      readonly state: 'document';
      readonly document: Document;
      readonly text: string;
      readonly stat: StatHint | undefined;
      readonly written: WrittenAt;
    }
  | { readonly state: 'blank'; readonly reason: string; readonly text: string }
  | { readonly state: 'refused'; readonly reason: string }
  /** Not there. Confirmed after a quiet period with its directory and our marker present; else look again after `confirmInMs`. */
  | { readonly state: 'absent'; readonly confirmInMs: number }
  /** It is being written, or its directory is not there; nothing may be concluded. */
  | { readonly state: 'unsettled'; readonly reason: string; readonly retryInMs: number };

/** When a content was written, as its file tells; ms since the epoch. `mtime` may be a copy's, `ctime` is when the file came to be as it is. */
export interface WrittenAt {
  readonly mtime: number;
  readonly ctime: number;
}

/** What was written into a file that had been replaced or removed. It is offered until it is `taken`. */
export interface LateText {
  readonly text: string;
  readonly taken: () => void;
}

export interface ScannedFile {
  readonly key: DocumentKey;
  readonly stat: StatHint;
}

export interface RefusedName {
  readonly name: string;
  readonly reason: string;
}

export interface Scan {
  readonly files: readonly ScannedFile[];
  readonly refused: readonly RefusedName[];
}

/**
 * `marked`: the auth directory is there with our marker. `unmarked`: it is there without it, so it was emptied, replaced or is new; what is absent from it was
 * not deleted. `missing`: it is not there at all.
 */
export type Presence = 'marked' | 'unmarked' | 'missing';

export type WorkspaceWrite =
  | { readonly status: 'written'; readonly stat: StatHint | undefined }
  /** The file is no longer what the write was planned on. */
  | { readonly status: 'changed' };

/** The local files that CLIProxyAPI reads and writes. */
export interface Workspace {
  /** As it may be shown. */
  readonly description: string;
  /** False for a document that this workspace has no place for. */
  holds(key: DocumentKey): boolean;
  presence(): Presence;
  /** Writes the marker with the replica's id. */
  mark(replicaId: string): Promise<void>;
  /** Names and stat hints of every document; no content is read. O(files), no hashing. */
  scan(): Promise<Scan>;
  read(key: DocumentKey): Promise<LocalReading>;
  /**
   * Replaces the file atomically if it still has the text `expected` (`undefined`: is absent).
   * @throws TokenmirrorError WORKSPACE_DENIED
   */
  write(key: DocumentKey, document: Document, expected: string | undefined): Promise<WorkspaceWrite>;
  /** Removes the file if it still has the text `expected`. */
  remove(key: DocumentKey, expected: string): Promise<WorkspaceWrite>;
  /** True while a file that stood here is kept, for somebody may still write into it. */
  keepsReplaced(key: DocumentKey): boolean;
  /** What was written into files that stood here, after `write` or `remove` had taken their place. */
  late(key: DocumentKey): Promise<readonly LateText[]>;
  /** Calls back with keys to look at, or `undefined` for "look at everything". A hint only. */
  watch(hint: (key: DocumentKey | undefined) => void): Promise<() => Promise<void>>;
}
