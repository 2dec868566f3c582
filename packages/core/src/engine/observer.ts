import { digestOf } from '../documents/digest.js';
import { credentialPath, isCredentialKey, type DocumentKey } from '../documents/document-key.js';
import { credentialFrom, readDocument, type Document } from '../documents/document.js';
import { withGrantOf } from '../documents/grant.js';
import type { Hasher } from '../documents/hasher.js';
import type { HostSections } from '../documents/host-sections.js';
import type { Base } from '../planning/base.js';
import type { LensOf } from '../planning/lens.js';
import type { Local, Memory, Remote } from '../planning/plan.js';
import type { BaseRecords } from '../ports/base-records.js';
import type { Clock } from '../ports/clock.js';
import type { Entry, TokenStore } from '../ports/token-store.js';
import type { LocalReading, Workspace, WrittenAt } from '../ports/workspace.js';
import { Batcher } from './batcher.js';
import type { EngineEvent } from './events.js';

export interface ObserverParts {
  readonly workspace: Workspace;
  readonly store: TokenStore;
  readonly bases: BaseRecords;
  readonly hasher: Hasher;
  readonly hostSections: HostSections;
  readonly lensOf: LensOf;
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
  /** What `local` was read from, before the lens. */
  readonly file: Document | undefined;
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
    const local = reading.state === 'document' ? { document: reading.document, written: reading.written } : undefined;
    return this.#besideStore(key, reading, local, base);
  }

  /**
   * A content that was written into the file after it had been replaced, beside the store. Only a grant that nobody knows makes it worth anything; its settings are those of
   * the replaced file, so the store's are taken for them. `later` as long as the file itself is not what was last seen.
   */
  async observeLate(key: DocumentKey, text: string): Promise<Observed | 'later' | 'nothing'> {
    const { workspace, bases, maxDocumentBytes, hasher, hostSections } = this.#parts;
    const late = readDocument(key, text, maxDocumentBytes);
    if (late.state !== 'document' || late.document.kind !== 'credential') return 'nothing';
    const reading = await workspace.read(key);
    const base = bases.get(key);
    const live = reading.state === 'document' ? digestOf(reading.document, hasher, hostSections).hash : undefined;
    if ((reading.state !== 'document' && reading.state !== 'absent') || live !== base?.local?.hash) return 'later';
    const observed = await this.#besideStore(key, reading, { document: late.document, written: undefined }, base);
    if ('verdict' in observed) return 'later';
    const { remote } = observed;
    const { fingerprint } = digestOf(late.document, hasher, hostSections);
    const lineage = remote.state === 'absent' ? [] : remote.lineage;
    if (fingerprint === undefined || fingerprint === base?.local?.fingerprint || lineage.includes(fingerprint)) return 'nothing';
    if (remote.state !== 'document' || remote.document.kind !== 'credential') return observed;
    const document = credentialFrom(withGrantOf(remote.document.fields, late.document.fields));
    const digest = digestOf(document, hasher, hostSections);
    return { ...observed, local: { state: 'document', document, absorbed: digest, digest } };
  }

  /** The document was seen absent from the store; the next look that finds it so confirms it. */
  missed(key: DocumentKey): void {
    this.#missedOnce.add(key);
  }

  async #besideStore(
    key: DocumentKey,
    reading: LocalReading,
    found: { readonly document: Document; readonly written: WrittenAt | undefined } | undefined,
    base: Base | undefined,
  ): Promise<Observed | { readonly verdict: Verdict }> {
    const { hasher, hostSections, lensOf, clock, echoMs } = this.#parts;
    const entry = await this.#reads.add(key);
    const remote = this.#remoteOf(key, entry);
    if (remote === 'refused') return { verdict: undefined };
    const absorbed = found && lensOf(key).absorb(found.document, remote.state === 'document' ? remote.document : undefined);
    const local: Local =
      found !== undefined && absorbed !== undefined
        ? {
            state: 'document',
            document: absorbed,
            absorbed: digestOf(absorbed, hasher, hostSections),
            digest: digestOf(found.document, hasher, hostSections),
          }
        : reading.state === 'blank'
          ? { state: 'blank', reason: reading.reason }
          : { state: 'absent' };
    const written = found?.written ?? { mtime: clock.now(), ctime: clock.now() };
    const recent = (base?.replaced ?? []).map(({ at, ...old }) => ({ ...old, ageMs: ageOf(written, at) }));
    const memory = { recent, echoMs: isReloaded(key) ? echoMs : Infinity };
    return { key, reading, local, file: found?.document, text: found?.document.text, entry, remote, base, memory };
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
export function withoutLocal(base: Base): Base {
  return Object.fromEntries(Object.entries(base).filter(([name]) => name !== 'local')) as unknown as Base;
}

/**
 * How long after a replacement a file was written. By the times of the file, for an echo may be seen much later than it was written; a copy that kept an older time
 * came when its inode changed. A clock that was put back makes it 0.
 */
function ageOf({ mtime, ctime }: WrittenAt, replacedAt: number): number {
  return Math.max(0, (mtime >= replacedAt ? mtime : ctime) - replacedAt);
}

/** CLIProxyAPI reads credentials in sub-directories at its start only: what it saves of them is old, however late. */
function isReloaded(key: DocumentKey): boolean {
  return !isCredentialKey(key) || !credentialPath(key).includes('/');
}
