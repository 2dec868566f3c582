import { shownName, type DocumentKey } from '../documents/document-key.js';
import type { Clock } from '../ports/clock.js';
import type { RefusedName } from '../ports/workspace.js';
import type { ActedKind, EngineEvent } from './events.js';

export interface Refusal {
  readonly name: string;
  readonly side: 'workspace' | 'store';
  readonly reason: string;
}

type Counted = ActedKind | 'conflicts' | 'forks' | 'refused';

export interface EngineStatus {
  /** `in sync`; `working`; or degraded, with the reasons in the other fields. */
  readonly state: 'starting' | 'in sync' | 'working' | 'degraded';
  /** ms since the epoch of the last time that everything was settled. */
  readonly lastSync: number | undefined;
  readonly underWay: number;
  /** Documents that stand in the workspace and are known. */
  readonly documents: number;
  readonly outage: { readonly since: number; readonly reason: string; readonly remedy: string } | undefined;
  readonly workspaceMissing: boolean;
  readonly frozenDeletions: readonly DocumentKey[];
  readonly loginDue: readonly DocumentKey[];
  readonly refusals: readonly Refusal[];
  /** What was done; `conflicts` are merges in which a value lost, `forks` those in which a grant did, `refused` documents that could not be replicated. */
  readonly counts: Readonly<Record<Counted, number>>;
}

/** Keeps what is true now, and passes on only what is new: a state that goes on is told once. */
export class StatusBoard {
  readonly #clock: Clock;
  readonly #emit: (event: EngineEvent) => void;
  readonly #refusals = new Map<string, Refusal>();
  readonly #loginDue = new Set<DocumentKey>();
  readonly #counts: Record<Counted, number> = {
    pull: 0,
    push: 0,
    merge: 0,
    repair: 0,
    'delete-local': 0,
    'delete-remote': 0,
    conflicts: 0,
    forks: 0,
    refused: 0,
  };
  #outage: { since: number; startedAt: number; reason: string; remedy: string } | undefined;
  #missing = false;
  #lastSync: number | undefined;

  constructor(clock: Clock, emit: (event: EngineEvent) => void) {
    this.#clock = clock;
    this.#emit = emit;
  }

  get isOut(): boolean {
    return this.#outage !== undefined;
  }

  /** True when everything was settled once. */
  get hasSynced(): boolean {
    return this.#lastSync !== undefined;
  }

  note(event: EngineEvent): void {
    if (this.#isNews(event)) this.#emit(event);
  }

  /** Replaces the names that a full look at one side found unfit. */
  refusedNames(side: 'workspace' | 'store', refused: readonly RefusedName[]): void {
    const names = new Map(refused.map(({ name, reason }) => [shownName(name), reason]));
    for (const [id, refusal] of this.#refusals) {
      if (refusal.side === side && id.startsWith('name:') && !names.has(refusal.name)) this.#refusals.delete(id);
    }
    for (const [name, reason] of names) {
      if (this.#refuse(`name:${side}:${name}`, { name, side, reason })) this.#emit({ type: 'refused', name, side, reason });
    }
  }

  get isWorkspaceMissing(): boolean {
    return this.#missing;
  }

  /** The auth directory is there and can be read. */
  workspaceFound(): void {
    this.note({ type: 'mended', name: 'auths/' });
    if (this.#setMissing(false)) this.#emit({ type: 'mended', name: 'auths/' });
  }

  synced(): void {
    if (!this.isOut) this.#lastSync = this.#clock.now();
  }

  healed(): void {
    if (this.#outage === undefined) return;
    const { startedAt } = this.#outage;
    this.#outage = undefined;
    this.#emit({ type: 'healed', afterMs: Math.round(this.#clock.monotonic() - startedAt) });
  }

  status(frozenDeletions: readonly DocumentKey[], underWay: number, documents: number): EngineStatus {
    const degraded = this.isOut || this.#missing || frozenDeletions.length > 0 || this.#loginDue.size > 0 || this.#refusals.size > 0;
    const settled = underWay > 0 ? 'working' : 'in sync';
    const outage = this.#outage;
    return {
      state: degraded ? 'degraded' : this.#lastSync === undefined ? 'starting' : settled,
      lastSync: this.#lastSync,
      underWay,
      documents,
      outage: outage === undefined ? undefined : { since: outage.since, reason: outage.reason, remedy: outage.remedy },
      workspaceMissing: this.#missing,
      frozenDeletions,
      loginDue: [...this.#loginDue],
      refusals: [...this.#refusals.values()],
      counts: { ...this.#counts },
    };
  }

  #isNews(event: EngineEvent): boolean {
    switch (event.type) {
      case 'acted':
        this.#counts[event.action] += 1;
        if (event.conflicts.length > 0) this.#counts.conflicts += 1;
        if (event.conflicts.includes('grant')) this.#counts.forks += 1;
        this.#loginDue.delete(event.key);
        return true;
      case 'refused':
        return this.#refuse(`document:${event.name}`, { name: shownName(event.name), side: event.side, reason: event.reason });
      case 'mended':
        return this.#refusals.delete(`document:${event.name}`);
      case 'login-due': {
        const isNew = !this.#loginDue.has(event.key);
        this.#loginDue.add(event.key);
        return isNew;
      }
      case 'outage': {
        const isNew = this.#outage === undefined;
        this.#outage ??= { since: this.#clock.now(), startedAt: this.#clock.monotonic(), reason: event.reason, remedy: event.remedy };
        return isNew;
      }
      case 'workspace-missing':
        return this.#setMissing(true);
      case 'deletions-frozen':
      case 'healed':
      case 'rehydrating':
        return true;
    }
  }

  #refuse(id: string, refusal: Refusal): boolean {
    const before = this.#refusals.get(id);
    this.#refusals.set(id, refusal);
    if (before?.reason !== refusal.reason) this.#counts.refused += 1;
    return before?.reason !== refusal.reason;
  }

  #setMissing(value: boolean): boolean {
    const changed = this.#missing !== value;
    this.#missing = value;
    return changed;
  }
}
