import type { ApiKey } from './api-key.js';
import { recordOf } from './key-rows.js';
import { PERIODS, windowStart, type Use } from './quota.js';
import { holdRevision, raiseRevision } from './revision.js';
import type { Changes } from './schema.js';

/** One use of a key, by its clear text. */
export interface KeyUse extends Use {
  readonly key: string;
  readonly at: number;
}

/** How far a key is into its quota, told once for each window. */
export interface QuotaCrossing {
  readonly record: ApiKey;
  /** `0.8` or `1`. */
  readonly part: number;
}

/** Whose keys are counted, at which instant. */
interface Counted {
  readonly now: number;
  readonly isShared: boolean;
  readonly hashOf: (key: string) => string;
}

/** Parts of a quota that are told. */
const WARNINGS = [0.8, 1];

/** Counts what was used of each key; unknown ones are left out. Returns who came to 80 or 100 % of a quota by it. */
export async function countUses(changes: Changes, registry: Counted, uses: readonly KeyUse[]): Promise<readonly QuotaCrossing[]> {
  const { now, isShared, hashOf } = registry;
  const crossings: QuotaCrossing[] = [];
  // Two replicas count one after the other, and nobody waits for the other.
  await holdRevision(changes, isShared);
  const byHash = new Map<string, KeyUse[]>();
  const hashes = new Map([...new Set(uses.map(({ key }) => key))].map((key) => [key, hashOf(key)]));
  for (const use of uses) {
    const hash = hashes.get(use.key) ?? '';
    const same = byHash.get(hash);
    if (same === undefined) byHash.set(hash, [use]);
    else same.push(use);
  }
  if (byHash.size === 0) return crossings;
  const rows = await changes
    .selectFrom('tokenmirror_keys')
    .selectAll()
    .where('hash', 'in', [...byHash.keys()])
    .orderBy('id')
    .execute();
  for (const row of rows) {
    const before = await recordOf(changes, row, now);
    const ours = byHash.get(row.hash) ?? [];
    for (const period of PERIODS) await addUse(changes, row.id, period, ours, now);
    const last = Math.min(now, latestOf(ours));
    if (last > (row.last_used_at ?? 0))
      await changes.updateTable('tokenmirror_keys').set({ last_used_at: last }).where('id', '=', row.id).execute();
    const record = await recordOf(changes, { ...row, last_used_at: last }, now);
    const { quota } = record;
    if (quota === null) continue;
    const [from, to] = [before, record].map(({ used }) => used[quota.unit] / quota.limit);
    const part = WARNINGS.findLast((each) => (from ?? 0) < each && (to ?? 0) >= each);
    if (part === undefined) continue;
    crossings.push({ record, part });
    if (part === 1) await raiseRevision(changes, isShared);
  }
  return crossings;
}

async function addUse(changes: Changes, id: string, period: (typeof PERIODS)[number], uses: readonly KeyUse[], now: number): Promise<void> {
  // A clock that was ahead once leaves no window that never comes.
  const latest = windowStart(period, Math.min(now, latestOf(uses)));
  const inWindow = uses.filter(({ at }) => windowStart(period, Math.min(now, at)) === latest);
  const sum = (pick: (use: KeyUse) => number): number => inWindow.reduce((total, use) => total + pick(use), 0);
  const added = { requests: sum(({ requests }) => requests), tokens: sum(({ tokens }) => tokens) };
  const before = await changes
    .selectFrom('tokenmirror_key_use')
    .selectAll()
    .where('key_id', '=', id)
    .where('period', '=', period)
    .executeTakeFirst();
  if (before !== undefined && before.window_start > latest && before.window_start <= windowStart(period, now)) return;
  const isSame = before?.window_start === latest;
  const values = {
    window_start: latest,
    requests: added.requests + (isSame ? before.requests : 0),
    tokens: added.tokens + (isSame ? before.tokens : 0),
  };
  await changes
    .insertInto('tokenmirror_key_use')
    .values({ key_id: id, period, ...values })
    .onConflict((conflict) => conflict.columns(['key_id', 'period']).doUpdateSet(values))
    .execute();
}

function latestOf(uses: readonly KeyUse[]): number {
  return uses.reduce((latest, { at }) => Math.max(latest, at), -Infinity);
}
