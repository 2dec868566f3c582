import type { CancelTimer, Clock } from '../ports/clock.js';

/** Timers by name, at most one each. */
export class Timers<Name> {
  readonly #clock: Clock;
  readonly #running = new Map<Name, { readonly due: number; readonly cancel: CancelTimer }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#running.size;
  }

  has(name: Name): boolean {
    return this.#running.has(name);
  }

  /** Starts a timer, unless one of that name is due sooner. */
  start(name: Name, ms: number, callback: () => void): void {
    const due = this.#clock.monotonic() + ms;
    const running = this.#running.get(name);
    if (running !== undefined && running.due <= due) return;
    running?.cancel();
    const cancel = this.#clock.after(ms, () => {
      this.#running.delete(name);
      callback();
    });
    this.#running.set(name, { due, cancel });
  }

  /** Starts a timer in the place of the one of that name. */
  restart(name: Name, ms: number, callback: () => void): void {
    this.#running.get(name)?.cancel();
    this.#running.delete(name);
    this.start(name, ms, callback);
  }

  cancelAll(): void {
    for (const { cancel } of this.#running.values()) cancel();
    this.#running.clear();
  }
}
