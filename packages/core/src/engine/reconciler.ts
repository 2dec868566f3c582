import type { Custody } from '../custody/custody.js';
import { digestOf, type Digest } from '../documents/digest.js';
import { isCredentialKey, type DocumentKey } from '../documents/document-key.js';
import { credentialFrom, type Document } from '../documents/document.js';
import { withGrantOf } from '../documents/grant.js';
import type { Fingerprint } from '../documents/hasher.js';
import { exhaustive } from '../exhaustive.js';
import { forgotten, isInUse, withLocal, type Base, type LocalHalf, type StatHint } from '../planning/base.js';
import { extendLineage, type Lineage } from '../planning/lineage.js';
import { plan, type Action } from '../planning/plan.js';
import type { Change, TokenStore, WriteOutcome } from '../ports/token-store.js';
import type { LocalReading } from '../ports/workspace.js';
import { Batcher } from './batcher.js';
import type { DeletionGate } from './deletion-gate.js';
import type { ActedKind } from './events.js';
import { findGrant } from './grant-search.js';
import { LARGEST_BATCH, Observer, type Observed, type ObserverParts, type Verdict } from './observer.js';
import { Repairs } from './repairs.js';
import { Retirement } from './retirement.js';

export interface ReconcilerParts extends Omit<ObserverParts, 'lensOf'> {
  readonly custody: Custody;
  readonly gate: DeletionGate;
  readonly elsewhere: () => readonly TokenStore[];
  readonly replicaId: string;
}

type Settlement = Extract<Action, { document: Document }>;

const TRIES = 10;
const RECHECK_MS = 1000;

/** Takes one document through observe → plan → act → record. The only path by which a document is written. */
export class Reconciler {
  readonly #parts: ReconcilerParts;
  readonly #observer: Observer;
  readonly #writes: Batcher<Change, WriteOutcome>;
  readonly #repairs: Repairs;
  readonly #retirement: Retirement;

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
    this.#observer = new Observer({ ...parts, lensOf: (key) => parts.custody.lensFor(key) });
    this.#writes = new Batcher((changes) => parts.store.write(changes, parts.replicaId), LARGEST_BATCH);
    this.#repairs = new Repairs(parts.clock);
    this.#retirement = new Retirement({ ...parts, repairs: this.#repairs });
  }

  /** What a pass would do with a document, changing nothing and waiting for nothing. */
  async preview(key: DocumentKey): Promise<Action> {
    const observed = await this.#observer.observe(key, 'preview');
    return 'verdict' in observed ? { kind: 'nothing' } : planOf(observed);
  }

  async reconcile(key: DocumentKey): Promise<Verdict> {
    await this.#parts.custody.prepare(key);
    const verdict = await this.#reconcileFile(key);
    for (const { text, taken } of await this.#parts.workspace.late(key)) {
      if (await this.#takeLate(key, text)) taken();
    }
    return verdict;
  }

  /** A cheap look at a file that was written or removed, without the store: `changed`, or when to look again. */
  async verify(key: DocumentKey): Promise<Verdict | 'changed'> {
    const { workspace, bases, hasher, hostSections } = this.#parts;
    const reading = await workspace.read(key);
    const left = bases.get(key)?.local?.hash;
    const isAsLeft =
      reading.state === 'document'
        ? digestOf(reading.document, hasher, hostSections).hash === left
        : reading.state === 'absent' && left === undefined;
    return isAsLeft && (await workspace.late(key)).length === 0 ? this.#stillWatched(key) : 'changed';
  }

  async #reconcileFile(key: DocumentKey): Promise<Verdict> {
    for (let attempt = 0; attempt < TRIES; attempt += 1) {
      const observed = await this.#observer.observe(key);
      if ('verdict' in observed) return observed.verdict;
      const meeting = await this.#parts.custody.meet(observed);
      if ('verdict' in meeting) return meeting.verdict;
      const verdict = await this.#act(meeting.goOn, planOf(meeting.goOn));
      if (verdict !== 'again') return verdict;
    }
    return { lookAgainInMs: RECHECK_MS };
  }

  /** What CLIProxyAPI wrote into a file that was being replaced just then: a new grant counts. `false` when it is too early to tell; the next look tries again. */
  async #takeLate(key: DocumentKey, text: string): Promise<boolean> {
    for (let attempt = 0; attempt < TRIES; attempt += 1) {
      const observed = await this.#observer.observeLate(key, text);
      if (observed === 'nothing') return true;
      if (observed === 'later') return false;
      const meeting = await this.#parts.custody.meet(observed);
      if ('verdict' in meeting) return false;
      const action = plan(meeting.goOn.local, observed.remote, undefined);
      if (action.kind === 'recheck' || action.kind === 'seek-grant') return false;
      if (action.kind !== 'push' && action.kind !== 'merge') return true;
      if ((await this.#settle(observed, action)) !== 'again') return true;
    }
    return false;
  }

  async #act(observed: Observed, action: Action): Promise<Verdict | 'again'> {
    const { key } = observed;
    const { gate, emit } = this.#parts;
    if (action.kind !== 'delete-local' && action.kind !== 'delete-remote') gate.withdraw(key);
    if (action.kind !== 'refuse') emit({ type: 'mended', name: key });
    switch (action.kind) {
      case 'nothing': {
        if (observed.remote.state === 'document' && this.#isToBeShownOtherwise(observed, observed.remote.document)) {
          return this.#settle(observed, { kind: 'adopt', document: observed.remote.document, because: 'custody', conflicts: [] });
        }
        await this.#refreshStat(observed);
        return this.#stillWatched(key);
      }
      case 'adopt':
      case 'pull':
      case 'push':
      case 'merge':
        return this.#settle(observed, action);
      case 'repair': {
        const pause = this.#repairs.pauseBefore(key);
        return pause > 0 ? { verifyInMs: pause } : this.#settle(observed, action);
      }
      case 'delete-local':
        return this.#deleteLocally(observed, action.isEcho);
      case 'delete-remote':
        return this.#deleteRemotely(observed);
      case 'forget':
        await this.#forget(observed.base);
        return undefined;
      case 'refuse':
        this.#refuse(key, action.side, action.reason);
        return undefined;
      case 'recheck':
        this.#observer.missed(key);
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
    action: Settlement,
    lineageOf: (lineage: Lineage, fingerprint: Fingerprint | undefined) => Lineage = extendLineage,
  ): Promise<Verdict | 'again'> {
    const { key, text, remote, entry } = observed;
    const { store, replicaId, hasher, hostSections, custody } = this.#parts;
    const digest = digestOf(action.document, hasher, hostSections);
    if (action.conflicts.length > 0 && text !== undefined) {
      await store.history?.archive(key, text, `lost a merge: ${action.conflicts.join(', ')}`, replicaId);
    }

    let revision = entry?.revision;
    const known = remote.state === 'absent' ? [] : remote.lineage;
    const lineage = lineageOf(known, digest.fingerprint);
    const sameInStore = remote.state === 'document' && remote.digest.hash === digest.hash;
    if (!sameInStore || lineage !== known || revision === undefined) {
      const content = sameInStore ? remote.document.text : action.document.text;
      const records = await custody.admit(observed, action.document);
      const outcome = await this.#write({ key, expected: revision ?? 'absent', content, lineage }, records);
      if (outcome.status === 'refused') return 'again';
      if (outcome.status === 'unacceptable') {
        this.#refuse(key, 'store', outcome.reason);
        return undefined;
      }
      revision = outcome.revision;
      await custody.pushed(key, action.document);
    }
    return this.#present(observed, action, { state: 'live', revision, digest });
  }

  async #write(change: Change, records: readonly Change[]): Promise<WriteOutcome> {
    if (records.length === 0) return this.#writes.add(change);
    const outcomes = await this.#parts.store.write([...records, change], this.#parts.replicaId, 'together');
    return outcomes.at(-1) ?? { status: 'refused' };
  }

  /** Makes the workspace show what the store holds now. */
  async #present({ key, reading, base }: Observed, action: Settlement, remote: NonNullable<Base['remote']>): Promise<Verdict | 'again'> {
    const { hasher, hostSections, custody, workspace, bases, clock } = this.#parts;
    const now = reading.state === 'document' ? reading.document : undefined;
    const presented = await custody.show(key, action.document, now);
    const digest = digestOf(presented, hasher, hostSections);
    const before: Base = { ...base, key, remote };
    if (reading.state === 'document' && now !== undefined && this.#isShown(now, presented)) {
      const unchanged = half(digestOf(now, hasher, hostSections), reading.stat);
      await bases.set(withLocal(before, unchanged, clock.now()));
      this.#acted(key, action);
      return this.#stillWatched(key);
    }
    const written = await workspace.write(key, presented, expectedText(reading));
    custody.shown(key, written.status === 'written');
    if (written.status === 'changed') {
      await bases.set(before);
      return 'again';
    }
    const replaced = now === undefined ? before : { ...before, local: digestOf(now, hasher, hostSections) };
    const seen = base?.local === undefined ? replaced : withLocal({ ...replaced, local: base.local }, replaced.local, clock.now());
    await bases.set(withLocal(seen, half(digest, written.stat), clock.now()));
    this.#acted(key, action);
    if (now === undefined || !isCredentialKey(key)) return undefined;
    return { verifyInMs: this.#repairs.written(key, action.kind === 'repair') };
  }

  /** A file that was written a moment ago is right now, and looked at until it has stayed so. */
  #stillWatched(key: DocumentKey): Verdict {
    const watchMs = this.#repairs.foundRight(key);
    return watchMs > 0 ? { verifyInMs: watchMs } : undefined;
  }

  #isShown(now: Document, presented: Document): boolean {
    const { hasher, hostSections } = this.#parts;
    if (digestOf(presented, hasher, hostSections).hash !== digestOf(now, hasher, hostSections).hash) return false;
    if (now.kind !== 'config' || presented.kind !== 'config') return true;
    return [...presented.config.sections.keys()].every((name) => now.config.sections.has(name));
  }

  /** True for a credential whose file custody wants to be another, although nobody changed anything. */
  #isToBeShownOtherwise({ key, reading }: Observed, stored: Document): boolean {
    if (reading.state !== 'document' || stored.kind !== 'credential') return false;
    return !this.#isShown(reading.document, this.#parts.custody.lensFor(key).present(stored, reading.document));
  }

  async #deleteLocally(observed: Observed, isEcho: boolean): Promise<Verdict | 'again'> {
    const { key, local, text, base } = observed;
    const { gate, store, replicaId } = this.#parts;
    if (text === undefined || local.state !== 'document') return undefined;
    if (base?.retiring !== undefined) gate.underWay(key, 'workspace');
    else if (!isEcho) {
      if (!gate.propose(key, 'workspace')) return undefined;
      if (local.digest.hash !== base?.local?.hash) {
        await store.history?.archive(key, text, 'an older copy, deleted with its credential', replicaId);
      }
    }
    const step = await this.#retirement.advance(observed);
    if (step !== 'removed') return step;
    this.#acted(key, { kind: 'delete-local', because: isEcho ? 'CLIProxyAPI brought it back' : 'deleted in the store', conflicts: [] });
    return this.#retirement.watch;
  }

  async #deleteRemotely({ key, entry, remote, base }: Observed): Promise<Verdict | 'again'> {
    if (entry === undefined || remote.state !== 'document') return undefined;
    const { gate } = this.#parts;
    if (!gate.propose(key, 'store')) return undefined;
    const outcome = await this.#writes.add({ key, expected: entry.revision, content: null, lineage: entry.lineage });
    if (outcome.status !== 'written') return 'again';
    await this.#forget(base);
    this.#acted(key, { kind: 'delete-remote', because: 'deleted here', conflicts: [] });
    return undefined;
  }

  /** Neither side has the document any more; what stood here is remembered for a while, in case it comes back. */
  async #forget(base: Base | undefined): Promise<void> {
    if (base === undefined) return;
    const { bases, clock } = this.#parts;
    const rest = forgotten(base, clock.now());
    if (rest === undefined) await bases.delete(base.key);
    else if (isInUse(base)) await bases.set(rest);
  }

  /**
   * The store went back to a grant that was replaced. Brings the newest one back from the history or a mirror; where nobody has it, what is there
   * stays in use (a newer access token here, too), the lineage stays as it is, so that a replica that still has the newest grant wins later.
   */
  async #repairGrant(observed: Observed, wanted: Fingerprint): Promise<Verdict | 'again'> {
    const { key, remote, local, base, memory } = observed;
    if (remote.state !== 'document' || remote.document.kind !== 'credential') return undefined;
    const whole = await findGrant(this.#parts, key, wanted);
    if (whole !== undefined) {
      const document = credentialFrom(withGrantOf(remote.document.fields, whole));
      return this.#settle(observed, {
        kind: 'merge',
        document,
        because: 'the store went back to an older grant; the newest was in its history or a mirror',
        conflicts: [],
      });
    }
    const action = plan(local, { ...remote, lineage: [] }, base, memory);
    const verdict = action.kind === 'seek-grant' ? undefined : await this.#settleAsIs(observed, action);
    this.#parts.emit({ type: 'login-due', key });
    return verdict;
  }

  async #settleAsIs(observed: Observed, action: Action): Promise<Verdict | 'again'> {
    return 'document' in action ? this.#settle(observed, action, (lineage) => lineage) : this.#act(observed, action);
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

  #acted(
    key: DocumentKey,
    done: { readonly kind: ActedKind | 'adopt'; readonly because: string; readonly conflicts: readonly string[] },
  ): void {
    if (done.kind === 'adopt') return;
    this.#parts.emit({ type: 'acted', key, action: done.kind, because: done.because, conflicts: done.conflicts });
  }
}

function planOf({ local, remote, base, memory }: Observed): Action {
  return plan(local, remote, base, memory);
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
