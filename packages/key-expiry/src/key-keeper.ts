import { isOutage, messageOf, TokenmirrorError, type CancelTimer, type Clock, type Log } from '@tokenmirror/core';
import type { Actor } from './audit-log.js';
import type { KeyRegistry } from './key-registry.js';
import { withoutKeys } from './api-key.js';
import { isEmail, isPlain } from './key-wish.js';
import { describeQuota } from './quota.js';
import type { WantedSource } from './wanted-source.js';
import { describePlan, SETTLES_MS, type KeySync, type SyncOutcome } from './key-sync.js';

export interface KeyKeeperParts {
  readonly registry: KeyRegistry;
  readonly wanted: WantedSource;
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
  /** Keys that used 80 % of their quota or more. */
  readonly nearLimit: readonly {
    readonly id: string;
    readonly mask: string;
    readonly owner: string;
    readonly used: number;
    readonly quota: string;
    readonly isUsedUp: boolean;
  }[];
  /** Keys that are wanted, and cannot be decrypted. */
  readonly unreadable: readonly string[];
  /** Of the last day, as far as this daemon heard them. */
  readonly requests: readonly RechargeRequest[];
}

/** Part of a quota at which it is told. */
const WARNS_AT = 0.8;
const REQUESTS_LAST_MS = 86_400_000;
const MOST_REQUESTS = 100;

/** How long somebody who asks for a sync waits for it. */
const ASKED_MS = 8000;
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
  #nearLimit: KeysReport['nearLimit'] = [];
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
      nearLimit: this.#nearLimit,
      unreadable: this.#unreadable,
      requests: this.#requests.filter(({ at }) => this.#parts.clock.now() - at < REQUESTS_LAST_MS),
    };
  }

  /** Tells whoever runs this that somebody asks for more, and leaves a line in the audit log. */
  async request(actor: Actor, email: string, note: string): Promise<void> {
    const { registry, clock, log, changed } = this.#parts;
    if (!isEmail(email) || !isPlain(note))
      throw new TokenmirrorError(
        'KEY_INVALID',
        'the request names no e-mail address, or cannot be passed on',
        'Write name@example.com and one line.',
      );
    await registry.audit.note(actor, 'recharge-request', 'ok', `${email}: ${note}`);
    this.#requests = [...this.#requests, { email, note: withoutKeys(note), at: clock.now() }].slice(-MOST_REQUESTS);
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

  /** Looks at everything at once: a CLIProxyAPI came back, or somebody asks. Returns how it went for each target, as far as it is known in time. */
  async syncNow(): Promise<readonly (SyncOutcome & { readonly target: string })[]> {
    const { syncs, clock } = this.#parts;
    const outcomes = syncs.map(async (sync) => {
      let cancel: CancelTimer = () => undefined;
      const tooLong = new Promise<SyncOutcome>((resolve) => {
        cancel = clock.after(ASKED_MS, () => {
          resolve({ status: 'waiting' });
        });
      });
      const outcome = await Promise.race([this.#run(sync), tooLong]);
      cancel();
      return { ...outcome, target: sync.target };
    });
    const [known] = await Promise.all([Promise.all(outcomes), this.#lookAtTerms()]);
    return known;
  }

  /** Each target goes at its own pace: one that does not answer keeps no other waiting. */
  async #tick(): Promise<void> {
    const { registry, clock, syncs, intervalMs } = this.#parts;
    try {
      const revision = await registry.revision().catch((error: unknown) => {
        this.#noteProblem(messageOf(error), isOutage(error) ? 'warn' : 'error');
        return undefined;
      });
      const isDue = clock.monotonic() >= this.#syncAt || clock.now() >= this.#changesAt;
      if (isDue || (revision !== undefined && revision !== this.#revision)) {
        this.#syncAt = clock.monotonic() + intervalMs;
        for (const sync of syncs) this.#run(sync).catch(() => undefined);
        await this.#lookAtTerms();
        if (revision !== undefined) this.#revision = revision;
      }
      if (revision !== undefined) this.#noteProblem(undefined);
    } catch (error) {
      this.#noteProblem(messageOf(error), isOutage(error) ? 'warn' : 'error');
    }
    if (this.#stopped) return;
    const look = registry.isShared ? LOOK_MS.shared : LOOK_MS.embedded;
    const untilChange = this.#changesAt - clock.now();
    this.#cancel = clock.after(Math.max(10, Math.min(look, untilChange)), () => void this.#tick());
  }

  async #lookAtTerms(): Promise<void> {
    const { registry, wanted, clock, remindMs } = this.#parts;
    const { changesAt, unreadable } = await wanted.read();
    this.#changesAt = changesAt ?? Infinity;
    this.#unreadable = unreadable;
    this.#ending = (await registry.ending(clock.now() + remindMs)).map(({ id, mask, owner, expiresAt }) => ({
      id,
      mask,
      owner,
      expiresAt,
    }));
    this.#nearLimit = (await registry.nearLimit(WARNS_AT)).map(({ id, mask, owner, used, quota }) => ({
      id,
      mask,
      owner,
      used: used[quota.unit],
      quota: describeQuota(quota),
      isUsedUp: used[quota.unit] >= quota.limit,
    }));
  }

  async #run(sync: KeySync): Promise<SyncOutcome> {
    const outcome = await sync.run();
    const { log, clock, changed } = this.#parts;
    const before = this.#targets.get(sync.target);
    const problem = outcome.status === 'failed' ? { reason: outcome.reason, remedy: outcome.remedy } : undefined;
    const foreign = outcome.status === 'synced' ? outcome.plan.foreign : (before?.foreign ?? []);
    const syncedAt = outcome.status === 'synced' ? clock.now() : before?.syncedAt;
    this.#targets.set(sync.target, { target: sync.target, problem, foreign, syncedAt });
    if (problem?.reason !== before?.problem?.reason) {
      if (problem === undefined) log.info('keys-well', { target: sync.target });
      else log.warn('keys-not-synced', { target: sync.target, ...problem });
      changed();
      await this.#audit(problem === undefined ? 'ok' : 'failed', `${sync.target}: ${problem?.reason ?? 'well again'}`);
    }
    if (outcome.status === 'synced' && outcome.plan.added.length + outcome.plan.removed.length > 0) {
      const { added, removed, ...rest } = describePlan(outcome.plan);
      log.info('keys-synced', { target: sync.target, added, removed, ...rest });
      this.#syncAt = Math.min(this.#syncAt, clock.monotonic() + SETTLES_MS);
      changed();
      await this.#audit('ok', `${sync.target}: added ${String(added.length)}, removed ${String(removed.length)}`);
    }
    return outcome;
  }

  /** Not for the price of the sync. */
  async #audit(outcome: 'ok' | 'failed', detail: string): Promise<void> {
    await this.#parts.registry.audit.note('sync', 'apply', outcome, detail).catch(() => undefined);
  }

  #noteProblem(problem: string | undefined, level: 'warn' | 'error' = 'warn'): void {
    if (problem === this.#problem) return;
    if (problem !== undefined) this.#parts.log[level]('keys-unavailable', { reason: problem });
    this.#problem = problem;
    this.#parts.changed();
  }
}
