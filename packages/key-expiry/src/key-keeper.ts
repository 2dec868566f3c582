import { isOutage, messageOf, type CancelTimer, type Clock, type Log } from '@tokenmirror/core';
import type { Actor, KeyRegistry } from './key-registry.js';
import { describePlan, SETTLES_MS, type KeySync, type SyncOutcome } from './key-sync.js';

export interface KeyKeeperParts {
  readonly registry: KeyRegistry;
  readonly syncs: readonly KeySync[];
  readonly clock: Clock;
  readonly log: Log;
  /** How often CLIProxyAPI is looked at without a reason, in ms. */
  readonly intervalMs: number;
  /** How long before its end a key is told of, in ms. */
  readonly remindMs: number;
  readonly changed: () => void;
}

export interface TargetReport {
  readonly target: string;
  readonly problem: { readonly reason: string; readonly remedy: string } | undefined;
  /** Masks of keys that nobody registered. */
  readonly foreign: readonly string[];
  /** ms since the epoch; `undefined` before the first success. */
  readonly syncedAt: number | undefined;
}

/** Somebody asks for more. */
export interface RechargeRequest {
  readonly email: string;
  readonly note: string;
  /** ms since the epoch. */
  readonly at: number;
}

export interface KeysReport {
  readonly registry: string;
  readonly problem: string | undefined;
  readonly targets: readonly TargetReport[];
  /** Keys whose term ends soon. */
  readonly ending: readonly { readonly id: string; readonly mask: string; readonly owner: string; readonly expiresAt: number }[];
  /** Keys that are wanted, and cannot be decrypted. */
  readonly unreadable: readonly string[];
  /** Of the last day, as far as this daemon heard them. */
  readonly requests: readonly RechargeRequest[];
}

const REQUESTS_LAST_MS = 86_400_000;
const MOST_REQUESTS = 100;

/** How often the registry is asked whether something changed: a look into a file, or one row of Postgres. */
const LOOK_MS = { embedded: 1000, shared: 2000 };

/** Keeps the keys of every CLIProxyAPI right: at each change of the registry, at the instant a term or a quota's window ends, and now and then in any case. */
export class KeyKeeper {
  readonly #parts: KeyKeeperParts;
  readonly #targets = new Map<string, TargetReport>();
  #cancel: CancelTimer | undefined;
  #stopped = true;
  #problem: string | undefined;
  #revision = -1;
  #changesAt = Infinity;
  #syncAt = -Infinity;
  #ending: KeysReport['ending'] = [];
  #unreadable: readonly string[] = [];
  #requests: readonly RechargeRequest[] = [];

  constructor(parts: KeyKeeperParts) {
    this.#parts = parts;
    for (const { target } of parts.syncs) this.#targets.set(target, { target, problem: undefined, foreign: [], syncedAt: undefined });
  }

  get report(): KeysReport {
    const { registry } = this.#parts;
    return {
      registry: registry.description,
      problem: this.#problem,
      targets: [...this.#targets.values()],
      ending: this.#ending,
      unreadable: this.#unreadable,
      requests: this.#requests.filter(({ at }) => this.#parts.clock.now() - at < REQUESTS_LAST_MS),
    };
  }

  /** Tells whoever runs this that somebody asks for more, and leaves a line in the audit log. */
  async request(actor: Actor, email: string, note: string): Promise<void> {
    const { registry, clock, log, changed } = this.#parts;
    await registry.audit.note(actor, 'recharge-request', 'ok', `${email}: ${note}`);
    this.#requests = [...this.#requests, { email, note, at: clock.now() }].slice(-MOST_REQUESTS);
    log.info('recharge-requested', { email });
    changed();
  }

  start(): void {
    this.#stopped = false;
    void this.#tick();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }

  /** Looks at everything at once: a CLIProxyAPI came back, or somebody asks. Returns how it went for each target. */
  async syncNow(): Promise<readonly (SyncOutcome & { readonly target: string })[]> {
    const { syncs, registry, clock, intervalMs } = this.#parts;
    this.#syncAt = clock.monotonic() + intervalMs;
    this.#revision = await registry.revision();
    await this.#lookAtTerms();
    const outcomes = await Promise.all(syncs.map(async (sync) => ({ ...(await this.#run(sync)), target: sync.target })));
    if (outcomes.some((outcome) => outcome.status === 'synced' && outcome.plan.added.length + outcome.plan.removed.length > 0))
      this.#syncAt = Math.min(this.#syncAt, clock.monotonic() + SETTLES_MS);
    return outcomes;
  }

  async #tick(): Promise<void> {
    const { registry, clock } = this.#parts;
    try {
      const isDue = clock.monotonic() >= this.#syncAt || clock.now() >= this.#changesAt;
      if (isDue || (await registry.revision()) !== this.#revision) await this.syncNow();
      this.#noteProblem(undefined);
    } catch (error) {
      this.#revision = -1;
      this.#noteProblem(messageOf(error), isOutage(error) ? 'warn' : 'error');
    }
    if (this.#stopped) return;
    const look = registry.isShared ? LOOK_MS.shared : LOOK_MS.embedded;
    const untilChange = this.#changesAt - clock.now();
    this.#cancel = clock.after(Math.max(10, Math.min(look, untilChange)), () => void this.#tick());
  }

  async #lookAtTerms(): Promise<void> {
    const { registry, clock, remindMs } = this.#parts;
    const { changesAt, unreadable } = await registry.wanted();
    const soon = clock.now() + remindMs;
    this.#changesAt = changesAt ?? Infinity;
    this.#unreadable = unreadable;
    this.#ending = (await registry.ending(soon)).map(({ id, mask, owner, expiresAt }) => ({ id, mask, owner, expiresAt }));
  }

  async #run(sync: KeySync): Promise<SyncOutcome> {
    const outcome = await sync.run();
    const { log, clock, changed, registry } = this.#parts;
    const before = this.#targets.get(sync.target);
    const problem = outcome.status === 'failed' ? { reason: outcome.reason, remedy: outcome.remedy } : undefined;
    const foreign = outcome.status === 'synced' ? outcome.plan.foreign : (before?.foreign ?? []);
    const syncedAt = outcome.status === 'synced' ? clock.now() : before?.syncedAt;
    this.#targets.set(sync.target, { target: sync.target, problem, foreign, syncedAt });
    if (problem?.reason !== before?.problem?.reason) {
      if (problem === undefined) log.info('keys-well', { target: sync.target });
      else log.warn('keys-not-synced', { target: sync.target, ...problem });
      await registry.audit.note(
        'sync',
        'apply',
        problem === undefined ? 'ok' : 'failed',
        `${sync.target}: ${problem?.reason ?? 'well again'}`,
      );
      changed();
    }
    if (outcome.status === 'synced' && outcome.plan.added.length + outcome.plan.removed.length > 0) {
      const { added, removed, ...rest } = describePlan(outcome.plan);
      log.info('keys-synced', { target: sync.target, added, removed, ...rest });
      await registry.audit.note('sync', 'apply', 'ok', `${sync.target}: added ${String(added.length)}, removed ${String(removed.length)}`);
      changed();
    }
    return outcome;
  }

  #noteProblem(problem: string | undefined, level: 'warn' | 'error' = 'warn'): void {
    if (problem === this.#problem) return;
    if (problem !== undefined) this.#parts.log[level]('keys-unavailable', { reason: problem });
    this.#problem = problem;
    this.#parts.changed();
  }
}
