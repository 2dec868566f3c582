import { digestOf, type Digest } from '../documents/digest.js';
import type { DocumentKey } from '../documents/document-key.js';
import { credentialFrom, readDocument, type Document } from '../documents/document.js';
import { grantOf, isGrantField } from '../documents/grant.js';
import type { Fingerprint, Hasher } from '../documents/hasher.js';
import type { HostSections } from '../documents/host-sections.js';
import { exhaustive } from '../exhaustive.js';
import type { Base, LocalHalf, StatHint } from '../planning/base.js';
import type { Lens } from '../planning/lens.js';
import { extendLineage, type Lineage } from '../planning/lineage.js';
import { plan, type Action, type Local, type Remote } from '../planning/plan.js';
import type { BaseRecords } from '../ports/base-records.js';
import type { Change, Entry, TokenStore, WriteOutcome } from '../ports/token-store.js';
import type { LocalReading, Workspace } from '../ports/workspace.js';
import { Batcher } from './batcher.js';
import type { DeletionGate } from './deletion-gate.js';
import type { ActedKind, EngineEvent } from './events.js';

export interface ReconcilerParts {
  readonly workspace: Workspace;
  readonly store: TokenStore;
  readonly bases: BaseRecords;
  readonly hasher: Hasher;
  readonly hostSections: HostSections;
  readonly lens: Lens;
  readonly gate: DeletionGate;
  readonly replicaId: string;
  readonly maxDocumentBytes: number;
  readonly emit: (event: EngineEvent) => void;
}

/** What remains to be done for a document: nothing, another look after some ms, or another try with the next sweep. */
export type Verdict = { readonly lookAgainInMs: number } | 'failed' | undefined;

/** Both sides of a document as they were observed, ready to be planned on. */
interface Observed {
  readonly key: DocumentKey;
  readonly reading: LocalReading;
  readonly local: Local;
  readonly entry: Entry | undefined;
  readonly remote: Remote;
  readonly base: Base | undefined;
}

const LARGEST_BATCH = 500;
const TRIES = 10;
const RECHECK_MS = 1000;

/** Takes one document through observe → plan → act → record. The only path by which a document is written. */
export class Reconciler {
  readonly #parts: ReconcilerParts;
  readonly #reads: Batcher<DocumentKey, Entry | undefined>;
  readonly #writes: Batcher<Change, WriteOutcome>;
  /** Documents that were seen absent from the store once. */
  readonly #missedOnce = new Set<DocumentKey>();

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
    this.#reads = new Batcher(async (keys) => {
      const entries = await parts.store.read(keys);
      return keys.map((key) => entries.get(key));
    }, LARGEST_BATCH);
    this.#writes = new Batcher((changes) => parts.store.write(changes, parts.replicaId), LARGEST_BATCH);
  }

  /** What a pass would do with a document, changing nothing and waiting for nothing. */
  async preview(key: DocumentKey): Promise<Action> {
    const observed = await this.#observe(key, 'preview');
    return 'verdict' in observed ? { kind: 'nothing' } : plan(observed.local, observed.remote, observed.base);
  }

  async reconcile(key: DocumentKey): Promise<Verdict> {
    for (let attempt = 0; attempt < TRIES; attempt += 1) {
      const observed = await this.#observe(key);
      if ('verdict' in observed) return observed.verdict;
      const verdict = await this.#act(observed, plan(observed.local, observed.remote, observed.base));
      if (verdict !== 'again') return verdict;
    }
    return { lookAgainInMs: RECHECK_MS };
  }

  async #observe(key: DocumentKey, purpose: 'act' | 'preview' = 'act'): Promise<Observed | { readonly verdict: Verdict }> {
    const { workspace, bases, hasher, hostSections, lens } = this.#parts;
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

    const entry = await this.#reads.add(key);
    const remote = this.#remoteOf(key, entry);
    if (remote === 'refused') return { verdict: undefined };
    const local: Local =
      reading.state === 'document'
        ? {
            state: 'document',
            document: lens.absorb(reading.document, remote.state === 'document' ? remote.document : undefined),
            digest: digestOf(reading.document, hasher, hostSections),
          }
        : reading.state === 'blank'
          ? { state: 'blank', reason: reading.reason }
          : { state: 'absent' };
    return { key, reading, local, entry, remote, base };
  }

  #remoteOf(key: DocumentKey, entry: Entry | undefined): Remote | 'refused' {
    if (entry === undefined) {
      const confirmed = this.#missedOnce.has(key);
      return { state: 'absent', confirmed };
    }
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

  async #act(observed: Observed, action: Action): Promise<Verdict | 'again'> {
    const { key } = observed;
    const { bases, gate, emit } = this.#parts;
    if (action.kind !== 'delete-local' && action.kind !== 'delete-remote') gate.withdraw(key);
    if (action.kind !== 'refuse') emit({ type: 'mended', name: key });
    switch (action.kind) {
      case 'nothing':
        await this.#refreshStat(observed);
        return undefined;
      case 'adopt':
      case 'pull':
      case 'push':
      case 'merge':
        return this.#settle(observed, action);
      case 'delete-local':
        return this.#deleteLocally(observed);
      case 'delete-remote':
        return this.#deleteRemotely(observed);
      case 'forget':
        await bases.delete(key);
        return undefined;
      case 'refuse':
        this.#refuse(key, action.side, action.reason);
        return undefined;
      case 'recheck':
        this.#missedOnce.add(key);
        return { lookAgainInMs: RECHECK_MS };
      case 'seek-grant':
        return this.#repairGrant(observed, action.fingerprint);
      default:
        return exhaustive(action);
    }
  }

  /** Makes both sides hold the planned document: what loses is archived, the store is written first, then the workspace, then the base. */
  async #settle(
    observed: Observed,
    action: Extract<Action, { document: Document }>,
    lineageOf: (lineage: Lineage, fingerprint: Fingerprint | undefined) => Lineage = extendLineage,
  ): Promise<Verdict | 'again'> {
    const { key, reading, remote, entry } = observed;
    const { store, replicaId, hasher, hostSections, lens, workspace, bases } = this.#parts;
    const digest = digestOf(action.document, hasher, hostSections);
    if (action.conflicts.length > 0 && reading.state === 'document') {
      await store.history?.archive(key, reading.document.text, `lost a merge: ${action.conflicts.join(', ')}`, replicaId);
    }

    let revision = entry?.revision;
    const known = remote.state === 'absent' ? [] : remote.lineage;
    const lineage = lineageOf(known, digest.fingerprint);
    const sameInStore = remote.state === 'document' && remote.digest.hash === digest.hash;
    if (!sameInStore || lineage !== known || revision === undefined) {
      const content = sameInStore ? remote.document.text : action.document.text;
      const outcome = await this.#writes.add({ key, expected: revision ?? 'absent', content, lineage });
      if (outcome.status === 'refused') return 'again';
      if (outcome.status === 'unacceptable') {
        this.#refuse(key, 'store', outcome.reason);
        return undefined;
      }
      revision = outcome.revision;
      this.#missedOnce.delete(key);
    }
    const remoteHalf = { state: 'live' as const, revision, digest };

    const presented = lens.present(action.document, reading.state === 'document' ? reading.document : undefined);
    let localHalf: LocalHalf;
    if (reading.state === 'document' && !this.#mustWrite(reading.document, observed.local, presented)) {
      localHalf = half(digestOf(reading.document, hasher, hostSections), reading.stat);
    } else {
      const written = await workspace.write(key, presented, expectedText(reading));
      if (written.status === 'changed') {
        const local = observed.base?.local;
        await bases.set({ key, remote: remoteHalf, ...(local === undefined ? {} : { local }) });
        return 'again';
      }
      localHalf = half(digestOf(presented, hasher, hostSections), written.stat);
    }
    await bases.set({ key, local: localHalf, remote: remoteHalf });
    if (action.kind !== 'adopt') this.#acted(key, action.kind, action.because, action.conflicts);
    return undefined;
  }

  #mustWrite(now: Document, local: Local, presented: Document): boolean {
    const { hasher, hostSections } = this.#parts;
    if (local.state !== 'document' || digestOf(presented, hasher, hostSections).hash !== local.digest.hash) return true;
    if (now.kind !== 'config' || presented.kind !== 'config') return false;
    return [...presented.config.sections.keys()].some((name) => !now.config.sections.has(name));
  }

  async #deleteLocally({ key, reading, local, entry, base }: Observed): Promise<Verdict | 'again'> {
    const { gate, workspace, bases, store, replicaId } = this.#parts;
    if (reading.state !== 'document' || local.state !== 'document' || entry === undefined) return undefined;
    if (!gate.propose(key, 'workspace')) return undefined;
    if (local.digest.hash !== base?.local?.hash) {
      await store.history?.archive(key, reading.document.text, 'an older copy, deleted with its credential', replicaId);
    }
    const removed = await workspace.remove(key, reading.text);
    if (removed.status === 'changed') return 'again';
    gate.carriedOut(key, 'workspace');
    await bases.delete(key);
    this.#acted(key, 'delete-local', 'deleted in the store', []);
    return undefined;
  }

  async #deleteRemotely({ key, entry, remote }: Observed): Promise<Verdict | 'again'> {
    if (entry === undefined || remote.state !== 'document') return undefined;
    const { gate, bases } = this.#parts;
    if (!gate.propose(key, 'store')) return undefined;
    const outcome = await this.#writes.add({ key, expected: entry.revision, content: null, lineage: entry.lineage });
    if (outcome.status !== 'written') return 'again';
    gate.carriedOut(key, 'store');
    await bases.delete(key);
    this.#acted(key, 'delete-remote', 'deleted here', []);
    return undefined;
  }

  /**
   * The store went back to a grant that was replaced. Brings the newest one back from the history; where nobody has it, what is there
   * stays in use, the lineage stays as it is, so that a replica that still has the newest grant wins later.
   */
  async #repairGrant(observed: Observed, wanted: Fingerprint): Promise<Verdict | 'again'> {
    const { key, remote, local, base } = observed;
    if (remote.state !== 'document' || remote.document.kind !== 'credential') return undefined;
    const whole = await this.#findGrant(key, wanted);
    if (whole !== undefined) {
      const settings = Object.entries(remote.document.fields).filter(([name]) => !isGrantField(name));
      const document = credentialFrom({ ...Object.fromEntries(settings), ...grantOf(whole) });
      return this.#settle(observed, {
        kind: 'merge',
        document,
        because: 'the store went back to an older grant; the newest was in its history',
        conflicts: [],
      });
    }
    const action = plan(local, { ...remote, lineage: [] }, base);
    if (action.kind === 'seek-grant') return undefined;
    const verdict = 'document' in action ? await this.#settle(observed, action, (lineage) => lineage) : await this.#act(observed, action);
    this.#parts.emit({ type: 'login-due', key });
    return verdict;
  }

  async #findGrant(key: DocumentKey, wanted: Fingerprint) {
    const { store, hasher, hostSections, maxDocumentBytes } = this.#parts;
    for (const { id } of (await store.history?.versions(key)) ?? []) {
      const content = await store.history?.content(key, id);
      const reading = content === undefined ? undefined : readDocument(key, content, maxDocumentBytes);
      if (reading?.state !== 'document' || reading.document.kind !== 'credential') continue;
      if (digestOf(reading.document, hasher, hostSections).fingerprint === wanted) return reading.document.fields;
    }
    return undefined;
  }

  /** Unchanged content, touched file: remembers the new times, so that the next sweep need not read it. */
  async #refreshStat({ reading, local, base }: Observed): Promise<void> {
    if (base?.local === undefined || reading.state !== 'document' || local.state !== 'document' || reading.stat === undefined) return;
    if (base.local.stat !== undefined && sameStat(base.local.stat, reading.stat)) return;
    await this.#parts.bases.set({ ...base, local: half(local.digest, reading.stat) });
  }

  #refuse(key: DocumentKey, side: 'workspace' | 'store', reason: string): void {
    this.#parts.emit({ type: 'refused', name: key, side, reason });
  }

  #acted(key: DocumentKey, action: ActedKind, because: string, conflicts: readonly string[]): void {
    this.#parts.emit({ type: 'acted', key, action, because, conflicts });
  }
}

/** A base whose workspace was lost: nothing that is absent from it counts as deleted. */
export function withoutLocal({ key, remote }: Base): Base {
  return remote === undefined ? { key } : { key, remote };
}

export function sameStat(a: StatHint, b: StatHint): boolean {
  return a.size === b.size && a.ino === b.ino && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs;
}

function half(digest: Digest, stat: StatHint | undefined): LocalHalf {
  return stat === undefined ? digest : { ...digest, stat };
}

function expectedText(reading: LocalReading): string | undefined {
  return reading.state === 'document' || reading.state === 'blank' ? reading.text : undefined;
}
