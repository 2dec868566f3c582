export type CancelTimer = () => void;

/** Every reading of time and every timer of the domain, so that a simulation can run it on virtual time. */
export interface Clock {
  /** Wall-clock time in ms since the epoch. May jump. */
  now(): number;
  /** Milliseconds since some fixed instant. Never jumps back. */
  monotonic(): number;
  /** Calls back once after `ms`, unless cancelled. */
  after(ms: number, callback: () => void): CancelTimer;
}

export function sleep(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(ms, resolve);
  });
}

/** Numbers in [0, 1), for jitter. */
export type RandomSource = () => number;
