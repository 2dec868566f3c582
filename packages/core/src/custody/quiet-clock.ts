import type { Clock } from '../ports/clock.js';

/**
 * What a look at the proxy tells: it answers; it took the connection and says nothing, so it may be frozen in the middle of a refresh; nothing listens there;
 * or nobody knows where it is.
 */
export type Liveness = 'alive' | 'silent' | 'refused' | 'unknown';

/** How long a sealed file must have stayed so beside a living proxy. A refresh may pause for 30 s and is over 93 s later. */
export const QUIET_MS = 150_000;
/** A proxy that was not seen alive for so long may have been frozen meanwhile. */
export const LARGEST_GAP_MS = 5000;
/** A proxy that nothing was heard of for so long, not even a connection, ended: a frozen one keeps its port. */
export const ENDED_AFTER_MS = 15 * 60_000;

/** Since when the proxy has been watched without a gap, by the monotonic clock. */
export class QuietClock {
  readonly #clock: Clock;
  #aliveSince: number | undefined;
  #seenAlive = -Infinity;
  #goneSince: number | undefined;
  #lookedAt = -Infinity;
  #isOver = false;
  liveness: Liveness = 'unknown';

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `askedAt` is when the look began: what a slow answer proves is that it lived then. */
  noted(liveness: Liveness, askedAt: number): void {
    const now = this.#clock.monotonic();
    const isGap = now - this.#lookedAt > LARGEST_GAP_MS;
    this.#lookedAt = now;
    this.liveness = liveness;
    if (liveness === 'alive') {
      if (this.#aliveSince === undefined || now - this.#seenAlive > LARGEST_GAP_MS) this.#aliveSince = askedAt;
      this.#seenAlive = now;
      this.#goneSince = undefined;
      return;
    }
    if (now - this.#seenAlive > LARGEST_GAP_MS) this.#aliveSince = undefined;
    if (liveness === 'silent') this.#goneSince = undefined;
    else this.#goneSince = isGap ? now : (this.#goneSince ?? now);
  }

  /** The proxy's process is known to have ended: nothing is written any more. */
  processEnded(): void {
    this.#isOver = true;
  }

  get isProxyGone(): boolean {
    return this.#isOver || (this.#goneSince !== undefined && this.#clock.monotonic() - this.#goneSince >= ENDED_AFTER_MS);
  }

  /** True when a file that has been sealed since then, by the monotonic clock, needs no watch any more. */
  isQuiet(sealedAt: number): boolean {
    if (this.#isOver) return true;
    const now = this.#clock.monotonic();
    if (this.isProxyGone) return now - sealedAt >= QUIET_MS;
    if (this.#aliveSince === undefined || now - this.#seenAlive > LARGEST_GAP_MS) return false;
    return now - Math.max(this.#aliveSince, sealedAt) >= QUIET_MS;
  }
}
