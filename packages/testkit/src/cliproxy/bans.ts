import type { Clock } from '@tokenmirror/core';

const FAILURES = 5;
const BAN_MS = 30 * 60_000;

/** Counts wrong management keys by address, HTTP and RESP together. */
export class Bans {
  readonly #clock: Clock;
  readonly #enabled: boolean;
  readonly #addresses = new Map<string, { failures: number; until: number }>();

  constructor(clock: Clock, enabled: boolean) {
    this.#clock = clock;
    this.#enabled = enabled;
  }

  /** What a banned address is told, or `undefined`. */
  messageFor(address: string): string | undefined {
    const left = (this.#addresses.get(address)?.until ?? 0) - this.#clock.monotonic();
    if (left <= 0) return undefined;
    const seconds = Math.ceil(left / 1000);
    return `IP banned due to too many failed attempts. Try again in ${String(Math.floor(seconds / 60))}m${String(seconds % 60)}s`;
  }

  failed(address: string): void {
    if (!this.#enabled) return;
    const known = this.#addresses.get(address) ?? { failures: 0, until: 0 };
    known.failures += 1;
    if (known.failures >= FAILURES) {
      known.failures = 0;
      known.until = this.#clock.monotonic() + BAN_MS;
    }
    this.#addresses.set(address, known);
  }

  succeeded(address: string): void {
    this.#addresses.delete(address);
  }
}
