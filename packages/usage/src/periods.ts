export const HOUR_MS = 3_600_000;
export const DAY_MS = 86_400_000;

/** When the hour or day began, UTC. */
export function startOf(at: number, periodMs: number): number {
  return Math.floor(at / periodMs) * periodMs;
}

/** The next beginning of one, or this instant. */
export function nextStart(at: number, periodMs: number): number {
  return Math.ceil(at / periodMs) * periodMs;
}
