import type { RandomSource } from '../ports/clock.js';

const FIRST_MS = 500;
const LONGEST_MS = 30_000;

/** How long to wait before try `attempt` (from 0): doubling, bounded, with jitter of half its size so that replicas do not come back in step. */
export function backoffMs(attempt: number, random: RandomSource): number {
  const full = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(attempt, 10));
  return full / 2 + (random() * full) / 2;
}
