import { isOutage, type Clock } from '@tokenmirror/core';
import type { KeyRegistry, Wanted } from './key-registry.js';

/** What the registry wants; while its database is out of reach, what it wanted last, less what has ended since. */
export class WantedSource {
  readonly #registry: KeyRegistry;
  readonly #clock: Clock;
  #last: Wanted | undefined;

  constructor(registry: KeyRegistry, clock: Clock) {
    this.#registry = registry;
    this.#clock = clock;
  }

  /** @throws TokenmirrorError STORE_UNREACHABLE before the registry was read once */
  async read(): Promise<Wanted> {
    try {
      this.#last = await this.#registry.wanted();
      return this.#last;
    } catch (error) {
      if (this.#last === undefined || !isOutage(error)) throw error;
      return lessEnded(this.#last, this.#clock.now());
    }
  }
}

function lessEnded(wanted: Wanted, now: number): Wanted {
  const keys = wanted.keys.map((key) =>
    key.expiresAt !== null && key.expiresAt <= now ? { ...key, isWanted: false, key: undefined } : key,
  );
  const ends = keys.flatMap(({ isWanted, expiresAt }) => (isWanted && expiresAt !== null ? [expiresAt] : []));
  return { ...wanted, keys, changesAt: ends.length === 0 ? undefined : Math.min(...ends) };
}
