import type { DocumentKey } from '../documents/document-key.js';
import type { Digest } from '../documents/digest.js';
import type { Revision } from '../ports/token-store.js';

/** Identifies one content of a file cheaply. Never proof of equality, only of "not touched since". */
export interface StatHint {
  readonly size: number;
  readonly ino: string;
  readonly mtimeNs: string;
  readonly ctimeNs: string;
}

/** What the workspace last showed. */
export interface LocalHalf extends Digest {
  /** Absent when the file had changed too recently for its times to tell a later change apart. */
  readonly stat?: StatHint;
}

/** What the store last showed. */
export type RemoteHalf =
  | { readonly state: 'live'; readonly revision: Revision; readonly digest: Digest }
  | { readonly state: 'deleted'; readonly revision: Revision };

/**
 * What this replica and the authority last agreed on for one document. The two halves move separately, each only by what was really
 * read or written there.
 */
export interface Base {
  readonly key: DocumentKey;
  readonly local?: LocalHalf;
  readonly remote?: RemoteHalf;
}
