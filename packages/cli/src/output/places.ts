import type { MirrorStatus } from '@tokenmirror/core';
import { distance } from './table.js';

/** A copy that has been under way for longer than this is worth a look. */
const LATE_MS = 60_000;

/** False for a mirror that somebody should look at; one that is a moment behind is well. */
export function isMirrorWell({ problem, behindSince, frozenDeletions, ahead, refusals }: MirrorStatus): boolean {
  const isLate = behindSince !== undefined && Date.now() - behindSince > LATE_MS;
  return problem === undefined && !isLate && frozenDeletions === 0 && ahead.length === 0 && refusals.length === 0;
}

/** How a mirror is doing, in one line. */
export function describeMirror({
  state,
  waiting,
  behindSince,
  lastProof,
  problem,
  frozenDeletions,
  ahead,
  refusals,
}: MirrorStatus): string {
  const notes = [
    ...(problem === undefined ? [] : [`${problem.reason} (since ${distance(problem.since)}). ${problem.remedy}`]),
    ...(waiting === 0 || behindSince === undefined ? [] : [`${String(waiting)} documents wait since ${distance(behindSince)}`]),
    ...(frozenDeletions === 0 ? [] : [`${String(frozenDeletions)} deletions are frozen; it keeps them`]),
    ...(ahead.length === 0 ? [] : [`it holds newer grants than the authority: ${ahead.join(', ')}`]),
    ...refusals.map(({ name, reason }) => `refused: ${name}: ${reason}`),
    ...(lastProof === undefined ? [] : [`compared ${distance(lastProof)}`]),
  ];
  return [state, ...notes].join('; ');
}
