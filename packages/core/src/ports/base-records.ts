import type { DocumentKey } from '../documents/document-key.js';
import type { Base } from '../planning/base.js';

/** The base of every document, durable, for one (cluster, store). Reads are from memory. */
export interface BaseRecords {
  get(key: DocumentKey): Base | undefined;
  keys(): Iterable<DocumentKey>;
  /** Durable when resolved. Cost does not depend on the number of records. */
  set(base: Base): Promise<void>;
  delete(key: DocumentKey): Promise<void>;
}
