import type { Clock } from '@tokenmirror/core';

/** Time stands still until the test moves it. */
export class StillClock implements Clock {
  elapsed = 0;
  readonly #start = Date.now();
  now(): number {
    return this.#start + 3_600_000 + this.elapsed;
  }
  monotonic(): number {
    return this.elapsed;
  }
  after(): () => void {
    return () => undefined;
  }
}
