import type { DocumentKey, RecordKey } from '../documents/document-key.js';
import type { Document } from '../documents/document.js';
import type { Observed, Verdict } from '../engine/observer.js';
import { MODE_KEY, type CustodySetting } from './cluster-mode.js';
import type { Lens } from '../planning/lens.js';
import type { Change } from '../ports/token-store.js';

/** What becomes of a look at a document. */
export type Meeting =
  /** Plan on this. */
  { readonly goOn: Observed } | { readonly verdict: Verdict };

/**
 * What the engine asks of custody at each step with a document. Where a refresh token may be, and why, stays there; the engine only carries out what the lens shows.
 */
export interface Custody {
  attach(engine: CustodyEngine): void;
  /** Before anything is looked at, with the store in reach. Returns what has to be looked at although nothing seems to have changed. @throws TokenmirrorError CUSTODY_REFUSED */
  join(): Promise<readonly DocumentKey[]>;
  /** A record of ours changed in the store. */
  recordChanged(key: RecordKey): void;
  stop(): void;
  /** Before anything is looked at: a visit that is due begins here. */
  prepare(key: DocumentKey): Promise<void>;
  /** How the document is seen right now. */
  lensFor(key: DocumentKey): Lens;
  /** Both sides were looked at, nothing is planned yet. A token that stands in the workspace is claimed here. */
  meet(observed: Observed): Promise<Meeting>;
  /** Before the store is written: notes which tokens the document replaces. Returns what has to be written together with it. */
  admit(observed: Observed, document: Document): Promise<readonly Change[]>;
  /** The store has what was admitted. */
  pushed(key: DocumentKey, document: Document): Promise<void>;
  /** What the file is to hold of a stored document. */
  show(key: DocumentKey, stored: Document, local: Document | undefined): Promise<Document>;
  /** Whether the file was written as shown. */
  shown(key: DocumentKey, isWritten: boolean): void;
}

export interface CustodianOptions {
  /** A peer directory counts as another replica's disk: always sealed, and never visited. */
  readonly kind: 'replica' | 'peer';
  readonly setting: Exclude<CustodySetting, 'off'>;
  /** False for a store that several replicas may not really have in common. */
  readonly mayShare: boolean;
  /** False for a replica whose proxy is not to refresh. */
  readonly isRefresher: boolean;
}

/** What the engine does for custody. */
export interface CustodyEngine {
  look(key: DocumentKey): void;
  /** False during an outage, and before everything was seen once. */
  isInSync(): boolean;
  /** Runs what nobody waits for. */
  background(task: Promise<void>): void;
}

/** Documents pass through one lens, and every workspace may have every token. `check` fails where the cluster does not allow that. */
export function withoutCustody(lens: Lens, check: () => Promise<void> = () => Promise.resolve()): Custody {
  let engine: CustodyEngine | undefined;
  return {
    attach: (attached) => {
      engine = attached;
    },
    join: async () => {
      await check();
      return [];
    },
    recordChanged: (key) => {
      if (key === MODE_KEY) engine?.background(check());
    },
    stop: () => undefined,
    prepare: () => Promise.resolve(),
    lensFor: () => lens,
    meet: (observed) => Promise.resolve({ goOn: observed }),
    admit: () => Promise.resolve([]),
    pushed: () => Promise.resolve(),
    show: (_, stored, local) => Promise.resolve(lens.present(stored, local)),
    shown: () => undefined,
  };
}
