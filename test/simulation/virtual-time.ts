import type { CancelTimer, Clock } from '@tokenmirror/core';

interface Happening {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
  readonly process: SimProcess | undefined;
  isCancelled: boolean;
}

/** Random numbers from a seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** The one order in which everything happens. Between two happenings every promise that can go on does. */
export class VirtualTime {
  #now = 0;
  #order = 0;
  /** A binary heap, the next happening first. */
  readonly #heap: Happening[] = [];

  get now(): number {
    return this.#now;
  }

  at(at: number, run: () => void, process?: SimProcess): CancelTimer {
    const happening: Happening = { at: Math.max(at, this.#now), order: (this.#order += 1), run, process, isCancelled: false };
    this.#push(happening);
    return () => {
      happening.isCancelled = true;
    };
  }

  after(ms: number, run: () => void, process?: SimProcess): CancelTimer {
    return this.at(this.#now + ms, run, process);
  }

  /** Lets everything happen until then. `each` is called after every happening. */
  async runUntil(end: number, each: () => void = () => undefined): Promise<void> {
    for (let next = this.#heap[0]; next !== undefined && next.at <= end; next = this.#heap[0]) {
      this.#pop();
      if (next.isCancelled || next.process?.isDead === true) continue;
      this.#now = next.at;
      if (next.process?.isFrozen === true) {
        next.process.deferred.push(next.run);
        continue;
      }
      next.run();
      await new Promise((resolve) => setImmediate(resolve));
      each();
    }
    this.#now = end;
  }

  #push(happening: Happening): void {
    const heap = this.#heap;
    heap.push(happening);
    for (let at = heap.length - 1; at > 0;) {
      const parent = (at - 1) >> 1;
      if (!isBefore(heap[at], heap[parent])) break;
      swap(heap, at, parent);
      at = parent;
    }
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (heap.length === 0 || last === undefined) return;
    heap[0] = last;
    for (let at = 0; ;) {
      const [left, right] = [2 * at + 1, 2 * at + 2];
      let first = at;
      if (left < heap.length && isBefore(heap[left], heap[first])) first = left;
      if (right < heap.length && isBefore(heap[right], heap[first])) first = right;
      if (first === at) return;
      swap(heap, at, first);
      at = first;
    }
  }
}

function isBefore(one: Happening | undefined, other: Happening | undefined): boolean {
  if (one === undefined || other === undefined) return false;
  return one.at < other.at || (one.at === other.at && one.order < other.order);
}

function swap(heap: Happening[], one: number, other: number): void {
  const [a, b] = [heap[one], heap[other]];
  if (a === undefined || b === undefined) return;
  heap[one] = b;
  heap[other] = a;
}

/** A process of a host: what it waits for never comes once it is dead, and comes late while it is frozen. */
export class SimProcess {
  readonly deferred: (() => void)[] = [];
  readonly #time: VirtualTime;
  isDead = false;
  isFrozen = false;
  readonly clock: Clock;

  constructor(time: VirtualTime, epoch: () => number) {
    this.#time = time;
    this.clock = {
      now: () => epoch() + time.now,
      monotonic: () => time.now,
      after: (ms, callback) => time.after(ms, callback, this),
    };
  }

  /** One step that takes `ms`, between which and the next anything can happen. */
  step(ms: number): Promise<void> {
    return new Promise((resolve) => this.#time.after(ms, resolve, this));
  }

  kill(): void {
    this.isDead = true;
    this.deferred.length = 0;
  }

  thaw(): void {
    this.isFrozen = false;
    for (const run of this.deferred.splice(0)) this.#time.after(0, run, this);
  }
}
