import PQueue from 'p-queue';
import type { DocumentKey } from '../documents/document-key.js';

/** Runs documents in parallel, each one at a time; looks that arrive while one waits or runs become a single further run. */
export class DocumentQueue {
  readonly #queue: PQueue;
  readonly #states = new Map<DocumentKey, 'waiting' | 'running' | 'again'>();
  readonly #work: (key: DocumentKey) => Promise<void>;

  /** `work` must not throw. */
  constructor(work: (key: DocumentKey) => Promise<void>, concurrency: number) {
    this.#work = work;
    this.#queue = new PQueue({ concurrency });
  }

  get size(): number {
    return this.#states.size;
  }

  add(key: DocumentKey): void {
    const state = this.#states.get(key);
    if (state === 'running') this.#states.set(key, 'again');
    if (state !== undefined) return;
    this.#states.set(key, 'waiting');
    void this.#queue.add(() => this.#run(key));
  }

  /** Resolves when nothing waits or runs. */
  async idle(): Promise<void> {
    await this.#queue.onIdle();
  }

  async #run(key: DocumentKey): Promise<void> {
    this.#states.set(key, 'running');
    await this.#work(key);
    const again = this.#states.get(key) === 'again';
    this.#states.delete(key);
    if (again) this.add(key);
  }
}
