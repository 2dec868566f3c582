import { digestOf } from '../documents/digest.js';
import type { DocumentKey } from '../documents/document-key.js';
import { readDocument, type Document } from '../documents/document.js';
import type { Hasher } from '../documents/hasher.js';
import type { HostSections } from '../documents/host-sections.js';
import type { Base } from '../planning/base.js';
import { REFRESH_MS } from '../planning/echo.js';
import type { Lens } from '../planning/lens.js';
import type { Local, Memory, Remote } from '../planning/plan.js';
import type { BaseRecords } from '../ports/base-records.js';
import type { Clock } from '../ports/clock.js';
import type { Entry, TokenStore } from '../ports/token-store.js';
import type { LocalReading, Workspace } from '../ports/workspace.js';
import { Batcher } from './batcher.js';
import type { EngineEvent } from './events.js';

export interface ObserverParts {
  readonly workspace: Workspace;
  readonly store: TokenStore;
  readonly bases: BaseRecords;
  readonly hasher: Hasher;
  readonly hostSections: HostSections;
  readonly lens: Lens;
  readonly clock: Clock;
  readonly echoMs: number;
  readonly maxDocumentBytes: number;
  readonly emit: (event: EngineEvent) => void;
}

/** What remains to be done for a document. */
export type Verdict =
  /** Nothing. */
  | undefined
  /** It is not settled; look again after some ms. */
  | { readonly lookAgainInMs: number }
  /** It is settled; look after some ms whether it stayed so. */
  | { readonly verifyInMs: number }
  /** Try again with the next sweep. */
  | 'failed';

/** Both sides of a document as they were observed, ready to be planned on. */
export interface Observed {
  readonly key: DocumentKey;
  readonly reading: LocalReading;
  readonly local: Local;
  /** The text of `local`, which is not that of `reading` when it was written into a file that had been replaced. */
  readonly text: string | undefined;
  readonly entry: Entry | undefined;
  readonly remote: Remote;
  readonly base: Base | undefined;
  readonly memory: Memory;
}

export const LARGEST_BATCH = 500;

/** Looks at both sides of a document. */
export class Observer {
  readonly #parts: ObserverParts;
  readonly #reads: Batcher<DocumentKey, Entry | undefined>;
  /** Documents that were seen absent from the store once. */
  readonly #missedOnce = new Set<DocumentKey>();

  constructor(parts: ObserverParts) {
    this.#parts = parts;
    this.#reads = new Batcher(async (keys) => {
      const entries = await parts.store.read(keys);
      return keys.map((key) => entries.get(key));
    }, LARGEST_BATCH);
  }

  async observe(key: DocumentKey, purpose: 'act' | 'preview' = 'act'): Promise<Observed | { readonly verdict: Verdict }> {
    const { workspace, bases } = this.#parts;
    const reading = await workspace.read(key);
    if (reading.state === 'unsettled') return { verdict: { lookAgainInMs: reading.retryInMs } };
    if (reading.state === 'refused') {
      this.#refuse(key, 'workspace', reading.reason);
      return { verdict: 'failed' };
    }
    let base = bases.get(key);
    if (reading.state === 'absent' && base?.local !== undefined && reading.confirmInMs > 0) {
      if (purpose === 'act') return { verdict: { lookAgainInMs: reading.confirmInMs } };
      if (workspace.presence() !== 'marked') base = withoutLocal(base);
    }
    return this.#besideStore(key, reading, reading.state === 'document' ? reading.document : undefined, base, this.#parts.echoMs);
  }

  /**
   * The same with a content that was written into the file after it had been replaced. Whoever wrote it had the replaced content before them,
   * so all that it has in common with that is no change.
   */
  async observeLate(key: DocumentKey, text: string): Promise<Observed | undefined> {
    const { workspace, bases, maxDocumentBytes } = this.#parts;
    const late = readDocument(key, text, maxDocumentBytes);
    const reading = await workspace.read(key);
    if (late.state !== 'document' || reading.state === 'unsettled' || reading.state === 'refused') return undefined;
    const observed = await this.#besideStore(key, reading, late.document, bases.get(key), REFRESH_MS);
    return 'verdict' in observed ? undefined : observed;
  }

  /** The document was seen absent from the store; the next look that finds it so confirms it. */
  missed(key: DocumentKey): void {
    this.#missedOnce.add(key);
  }

  async #besideStore(
    key: DocumentKey,
    reading: LocalReading,
    document: Document | undefined,
    base: Base | undefined,
    echoMs: number,
  ): Promise<Observed | { readonly verdict: Verdict }> {
    const { hasher, hostSections, lens, clock } = this.#parts;
    const entry = await this.#reads.add(key);
    const remote = this.#remoteOf(key, entry);
    if (remote === 'refused') return { verdict: undefined };
    const local: Local =
      document !== undefined
        ? {
            state: 'document',
            document: lens.absorb(document, remote.state === 'document' ? remote.document : undefined),
            digest: digestOf(document, hasher, hostSections),
          }
        : reading.state === 'blank'
          ? { state: 'blank', reason: reading.reason }
          : { state: 'absent' };
    const now = clock.now();
    const recent = (base?.replaced ?? []).map(({ at, ...old }) => ({ ...old, ageMs: now - at })).filter(({ ageMs }) => ageMs >= 0);
    return { key, reading, local, text: document?.text, entry, remote, base, memory: { recent, echoMs } };
  }

  #remoteOf(key: DocumentKey, entry: Entry | undefined): Remote | 'refused' {
    if (entry === undefined) return { state: 'absent', confirmed: this.#missedOnce.has(key) };
    this.#missedOnce.delete(key);
    const { revision, lineage } = entry;
    if (entry.state === 'deleted') return { state: 'deleted', revision, lineage };
    const reading = readDocument(key, entry.content, this.#parts.maxDocumentBytes);
    if (reading.state === 'document') {
      const digest = digestOf(reading.document, this.#parts.hasher, this.#parts.hostSections);
      return { state: 'document', revision, lineage, document: reading.document, digest };
    }
    if (reading.state === 'blank' || reading.malformed) return { state: 'blank', revision, lineage, reason: reading.reason };
    this.#refuse(key, 'store', reading.reason);
    return 'refused';
  }

  #refuse(key: DocumentKey, side: 'workspace' | 'store', reason: string): void {
    this.#parts.emit({ type: 'refused', name: key, side, reason });
  }
}

/** A base whose workspace was lost: nothing that is absent from it counts as deleted. */
export function withoutLocal({ key, remote }: Base): Base {
  return remote === undefined ? { key } : { key, remote };
}
