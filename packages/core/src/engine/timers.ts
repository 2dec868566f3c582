import type { CancelTimer, Clock } from '../ports/clock.js';

/** Timers by name, at most one each. */
export class Timers<Name> {
  readonly #clock: Clock;
  readonly #running = new Map<Name, CancelTimer>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#running.size;
  }

  has(name: Name): boolean {
    return this.#running.has(name);
  }

  /** Starts a timer, unless one of that name runs. */
  start(name: Name, ms: number, callback: () => void): void {
    if (this.#running.has(name)) return;
    this.#running.set(
      name,
      this.#clock.after(ms, () => {
        this.#running.delete(name);
        callback();
      }),
    );
  }

  /** Starts a timer in the place of the one of that name. */
  restart(name: Name, ms: number, callback: () => void): void {
    this.#running.get(name)?.();
    this.#running.delete(name);
    this.start(name, ms, callback);
  }

  cancelAll(): void {
    for (const cancel of this.#running.values()) cancel();
    this.#running.clear();
  }
}
