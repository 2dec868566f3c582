import { isSentinel, isTemplate, maskOf } from './api-key.js';
import type { KnownKey } from './key-registry.js';

export interface KeyPlanInput {
  readonly known: readonly KnownKey[];
  /** What CLIProxyAPI has now. */
  readonly current: readonly string[];
  /** Ids of what was applied last. */
  readonly applied: readonly string[];
  readonly sentinel: string;
  readonly hashOf: (key: string) => string;
}

export interface KeyPlan {
  /** What the list should be. A sentinel is always in it, so that it is never empty, whatever others take out meanwhile. */
  readonly next: readonly string[];
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** Ids of the keys of the registry that are in the next list. */
  readonly applied: readonly string[];
  /** Masks of keys that nobody registered: they stay. */
  readonly foreign: readonly string[];
  /** Ids that somebody took out of CLIProxyAPI although they are valid; they are put back. */
  readonly putBack: readonly string[];
  /** Ids that came back into CLIProxyAPI although they are not valid; they are taken out again. */
  readonly cameBack: readonly string[];
}

/**
 * What CLIProxyAPI's list of keys should be. Three-way: what the registry wants, what CLIProxyAPI has, and what was applied last, which tells a change of
 * somebody else from one that is still to be made. Pure.
 */
export function planKeys({ known, current, applied, sentinel, hashOf }: KeyPlanInput): KeyPlan {
  const byHash = new Map(known.map((key) => [key.hash, key]));
  const here = [...new Set(current)].map((key) => ({ key, known: byHash.get(hashOf(key)) }));
  const ids = new Set(here.map((each) => each.known?.id));
  const wasApplied = new Set(applied);
  const kept = here.filter((each) => each.known?.isWanted ?? !isTemplate(each.key));
  const missing = known.filter(({ id, isWanted, key }) => isWanted && key !== undefined && !ids.has(id));
  const isClosed = kept.some(({ key }) => isSentinel(key));
  const next = [...kept.map(({ key }) => key), ...(isClosed ? [] : [sentinel]), ...missing.map(({ key }) => key ?? '')];
  const has = new Set(current);
  const goes = new Set(next);
  return {
    next,
    added: next.filter((key) => !has.has(key)),
    removed: [...has].filter((key) => !goes.has(key)),
    applied: [...kept.flatMap((each) => each.known?.id ?? []), ...missing.map(({ id }) => id)],
    foreign: kept.filter((each) => each.known === undefined && !isSentinel(each.key)).map(({ key }) => maskOf(key)),
    putBack: missing.filter(({ id }) => wasApplied.has(id)).map(({ id }) => id),
    cameBack: here.flatMap((each) => (each.known?.isWanted === false && !wasApplied.has(each.known.id) ? [each.known.id] : [])),
  };
}
