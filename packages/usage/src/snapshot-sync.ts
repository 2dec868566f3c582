import type { ManagementClient, Refusal } from '@tokenmirror/cliproxy-client';
import type { Clock, Log } from '@tokenmirror/core';
import type { Ledger } from './ledger.js';
import { exportUsage, importUsage } from './usage-calls.js';
import { readSnapshot, snapshotOf, type UsageEvent } from './usage-event.js';

export interface SnapshotSyncParts {
  readonly origin: string;
  readonly client: ManagementClient;
  readonly ledger: () => Ledger;
  readonly clock: Clock;
  readonly log: Log;
  readonly recoveryMs: number;
  readonly take: (events: readonly UsageEvent[]) => Promise<number>;
}

/** What one import holds at most. */
const IMPORT = 5000;

/** The snapshot era: takes what an export has and the ledger does not, and gives back what the ledger has and a restart of CLIProxyAPI lost. */
export class SnapshotSync {
  readonly #parts: SnapshotSyncParts;
  #lookedAt = -Infinity;
  #restored = 0;

  constructor(parts: SnapshotSyncParts) {
    this.#parts = parts;
  }

  get restored(): number {
    return this.#restored;
  }

  async sync(): Promise<Refusal | undefined> {
    const { client, take, clock, recoveryMs, origin, log } = this.#parts;
    const exported = await exportUsage(client);
    if (!exported.ok) return exported.refusal;
    const events = readSnapshot(exported.value);
    if (events === undefined) return { kind: 'failed', status: 200, reason: 'an export of another shape' };
    const live = new Set(events.map(({ id }) => id));
    const known = await this.#parts.ledger().ids(origin, 0);
    await take(events.filter(({ id }) => !known.has(id)));
    if ([...known].every((id) => live.has(id))) return undefined;
    if (clock.monotonic() - this.#lookedAt < recoveryMs) return undefined;
    this.#lookedAt = clock.monotonic();
    const missing = await this.#parts.ledger().restorable(origin, live);
    for (let at = 0; at < missing.length; at += IMPORT) {
      const part = missing.slice(at, at + IMPORT);
      const imported = await importUsage(client, snapshotOf(part));
      if (!imported.ok) return imported.refusal;
      const { added, skipped } = imported.value;
      if (added + skipped !== part.length)
        return { kind: 'failed', status: 200, reason: `of ${String(part.length)} entries it took ${String(added + skipped)}` };
      this.#restored += added;
      if (added > 0) log.info('usage-restored', { origin, added, skipped });
    }
    return undefined;
  }
}
