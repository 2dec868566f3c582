import type { MirrorStatus } from '@tokenmirror/core';
import { distance } from './table.js';

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
