import { explain, type ManagementClient, type Outcome, type Refusal } from '@tokenmirror/cliproxy-client';
import type { Clock } from '@tokenmirror/core';
import { addApiKey, putApiKeys, readApiKeys, removeApiKey } from './api-keys-call.js';
import { maskOf } from './api-key.js';
import { planKeys, type KeyPlan } from './key-plan.js';
import type { KeyRegistry, Wanted } from './key-registry.js';
import type { WantedSource } from './wanted-source.js';

export interface KeySyncParts {
  readonly registry: KeyRegistry;
  readonly wanted: WantedSource;
  readonly client: ManagementClient;
  readonly clock: Clock;
  /** Replica and address: what was applied is remembered under it. */
  readonly target: string;
}

/** How a sync of one CLIProxyAPI went. */
export type SyncOutcome =
  | { readonly status: 'idle'; readonly because: 'the registry has never had a key' }
  | { readonly status: 'synced'; readonly revision: number; readonly plan: KeyPlan; readonly unreadable: readonly string[] }
  /** It takes longer than whoever asks waits. */
  | { readonly status: 'waiting' }
  | { readonly status: 'failed'; readonly reason: string; readonly remedy: string; readonly refusal?: Refusal };

/** So many changes are made one by one, each of which leaves the rest of the list alone; more of them replace the list. */
const FEW = 4;
const ATTEMPTS = 3;
/** A change is looked at once more after CLIProxyAPI has surely taken it over: 2 s in the worst reports. */
export const SETTLES_MS = 2500;

/** Brings the keys of one CLIProxyAPI to what the registry wants. One run at a time: what is asked for meanwhile happens after it. */
export class KeySync {
  readonly #parts: KeySyncParts;
  #running: Promise<SyncOutcome> | undefined;
  #next: Promise<SyncOutcome> | undefined;
  #noted = '';
  /** It has the keys, and could not save them: they would be gone after a restart. */
  #isUnsaved = false;

  constructor(parts: KeySyncParts) {
    this.#parts = parts;
  }

  get target(): string {
    return this.#parts.target;
  }

  /** @throws TokenmirrorError STORE_UNREACHABLE of the registry */
  run(): Promise<SyncOutcome> {
    if (this.#running === undefined) {
      this.#running = this.#sync().finally(() => (this.#running = undefined));
      return this.#running;
    }
    this.#next ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#next = undefined;
        return this.run();
      });
    return this.#next;
  }

  /** What a run would do. Changes nothing. */
  async plan(): Promise<SyncOutcome> {
    const wanted = await this.#parts.wanted.read();
    if (wanted.keys.length === 0) return IDLE;
    const current = await readApiKeys(this.#parts.client);
    if (!current.ok) return failed(current.refusal);
    return { status: 'synced', revision: wanted.revision, plan: await this.#planOf(wanted, current.value), unreadable: wanted.unreadable };
  }

  async #sync(): Promise<SyncOutcome> {
    const { registry, target } = this.#parts;
    const outcome = await this.#bring();
    const state =
      outcome.status === 'synced'
        ? { applied: outcome.plan.applied, revision: outcome.revision, problem: undefined }
        : outcome.status === 'idle'
          ? { applied: [], revision: await registry.revision(), problem: undefined }
          : { applied: await this.#applied(), revision: -1, problem: outcome.status === 'failed' ? outcome.reason : undefined };
    const said = JSON.stringify(state);
    if ((said !== this.#noted || outcome.status === 'failed') && (await isNoted(registry.targets.note(target, state)))) this.#noted = said;
    return outcome;
  }

  /** The registry is asked anew each time: it may have changed meanwhile. */
  async #bring(): Promise<SyncOutcome> {
    const { client } = this.#parts;
    let first: KeyPlan | undefined;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      const wanted = await this.#parts.wanted.read();
      if (wanted.keys.length === 0) return IDLE;
      const current = await readApiKeys(client);
      if (!current.ok) return failed(current.refusal);
      const plan = await this.#planOf(wanted, current.value);
      if (plan.added.length === 0 && plan.removed.length === 0) {
        if (this.#isUnsaved && !(await this.#save(plan))) return UNSAVED;
        const done = first ?? plan;
        return { status: 'synced', revision: wanted.revision, plan: { ...plan, ...changesOf(done) }, unreadable: wanted.unreadable };
      }
      first ??= plan;
      const refusal = await this.#apply(plan);
      if (refusal !== undefined && refusal.kind !== 'failed') return failed(refusal);
      if (refusal !== undefined) this.#isUnsaved = true;
    }
    return {
      status: 'failed',
      reason: 'CLIProxyAPI does not keep the keys that it was given',
      remedy: 'Check that it can write its config, and that nobody else keeps changing its api-keys.',
    };
  }

  async #save({ next }: KeyPlan): Promise<boolean> {
    this.#isUnsaved = !(await putApiKeys(this.#parts.client, next)).ok;
    return !this.#isUnsaved;
  }

  /** Only for what is told: without the registry nobody knows. */
  #applied(): Promise<readonly string[]> {
    return this.#parts.registry.targets.applied(this.#parts.target).catch(() => []);
  }

  async #planOf({ keys, sentinel }: Wanted, current: readonly string[]): Promise<KeyPlan> {
    const { registry } = this.#parts;
    const applied = await this.#applied();
    return planKeys({ known: keys, current, applied, sentinel, hashOf: (key) => registry.secrets.hashOf(key) });
  }

  /** Adds before it removes, so that the list is never empty. A failure inside CLIProxyAPI may come after the change. */
  async #apply({ next, added, removed }: KeyPlan): Promise<Refusal | undefined> {
    const { client } = this.#parts;
    if (added.length + removed.length > FEW) return refusalOf(await putApiKeys(client, next));
    for (const key of added) {
      const refusal = refusalOf(await addApiKey(client, key));
      if (refusal !== undefined) return refusal;
    }
    for (const key of removed) {
      const refusal = refusalOf(await removeApiKey(client, key));
      if (refusal !== undefined) return refusal;
    }
    return undefined;
  }
}

const IDLE: SyncOutcome = { status: 'idle', because: 'the registry has never had a key' };

const UNSAVED: SyncOutcome = {
  status: 'failed',
  reason: 'CLIProxyAPI has the keys, but cannot save its config',
  remedy: 'Check the disk and the rights of config.yaml; until then a restart of CLIProxyAPI brings the old keys back for a moment.',
};

/** A note that could not be written is written the next time. */
function isNoted(note: Promise<void>): Promise<boolean> {
  return note.then(
    () => true,
    () => false,
  );
}

function changesOf({ added, removed, putBack, cameBack }: KeyPlan): Pick<KeyPlan, 'added' | 'removed' | 'putBack' | 'cameBack'> {
  return { added, removed, putBack, cameBack };
}

function refusalOf(outcome: Outcome<unknown>): Refusal | undefined {
  return outcome.ok ? undefined : outcome.refusal;
}

function failed(refusal: Refusal): SyncOutcome {
  return { status: 'failed', ...explain(refusal), refusal };
}

/** What changed, as it may be shown. */
export function describePlan({ added, removed, foreign, putBack, cameBack }: KeyPlan): {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  readonly foreign: readonly string[];
  readonly putBack: readonly string[];
  readonly cameBack: readonly string[];
} {
  return { added: added.map(maskOf), removed: removed.map(maskOf), foreign, putBack, cameBack };
}
