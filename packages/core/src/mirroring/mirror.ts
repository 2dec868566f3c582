import type { DocumentKey } from '../documents/document-key.js';
import { backoffMs } from '../engine/backoff.js';
import { isOutage } from '../errors.js';
import type { CancelTimer, Clock, RandomSource } from '../ports/clock.js';
import type { TokenStore } from '../ports/token-store.js';
import { AuthorityTrouble, Copier, type CopierOptions, type CopierParts, type DocumentChange } from './copier.js';
import { MirrorBoard, type MirrorEvent, type MirrorStatus } from './mirror-board.js';

export interface MirrorParts extends Omit<CopierParts, 'board'> {
  /** As it is configured. */
  readonly name: string;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly emit: (event: MirrorEvent) => void;
}

export interface MirrorOptions extends CopierOptions {
  /** How often everything is compared, in ms. */
  readonly intervalMs: number;
}

const LARGEST_BATCH = 500;
/** Rounds over documents that others keep changing, before a pause. */
const ROUNDS = 8;

/**
 * Keeps a further store as the authority is: what this replica changed at once, everything at intervals. Its troubles are its own: the authority and the
 * workspace know nothing of them, and one retry at a time is under way, ever more rarely.
 */
export class Mirror {
  readonly #parts: MirrorParts;
  readonly #intervalMs: number;
  readonly #board: MirrorBoard;
  readonly #copier: Copier;
  /** Documents to be looked at, and since when; ms since the epoch. */
  readonly #waiting = new Map<DocumentKey, number>();
  #isOpen = false;
  #attempts = 0;
  #working: Promise<boolean> | undefined;
  #compareAll = false;
  #retry: CancelTimer | undefined;
  #interval: CancelTimer | undefined;
  #stopped = false;

  constructor(parts: MirrorParts, { intervalMs, ...options }: MirrorOptions) {
    this.#parts = parts;
    this.#intervalMs = intervalMs;
    this.#board = new MirrorBoard({ ...parts, description: parts.store.description });
    this.#copier = new Copier({ ...parts, board: this.#board }, options);
  }

  /** The store, where it can be asked. */
  get source(): TokenStore | undefined {
    return this.#isOpen && !this.#board.isInTrouble ? this.#parts.store : undefined;
  }

  get status(): MirrorStatus {
    return this.#board.status(this.#waiting);
  }

  /** Makes the store ready to be asked. Resolves also when it cannot be; never throws. */
  async connect(): Promise<void> {
    await this.#work();
  }

  /** Compares everything now and at intervals, until `stop`. */
  start(): void {
    if (this.#stopped) return;
    void this.settle();
    this.#interval = this.#parts.clock.after(this.#intervalMs * (0.5 + this.#parts.random()), () => {
      this.start();
    });
  }

  /** This replica changed the document in the authority. */
  look(key: DocumentKey): void {
    if (this.#stopped) return;
    this.#wait([key]);
    if (this.#retry === undefined) void this.#work();
  }

  /** Compares everything, and copies what differs. Resolves when that is done, or when there is trouble. Never throws. */
  async settle(): Promise<void> {
    this.#compareAll = true;
    while (await this.#work()) if (!this.#isComparisonDue) return;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#retry?.();
    this.#interval?.();
    await this.#working;
    await this.#parts.store.close();
  }

  get #isComparisonDue(): boolean {
    return this.#compareAll && !this.#stopped;
  }

  /** One at a time; `false` when there was trouble. */
  #work(): Promise<boolean> {
    this.#working ??= this.#catchUp().finally(() => {
      this.#working = undefined;
    });
    return this.#working;
  }

  async #catchUp(): Promise<boolean> {
    this.#retry?.();
    this.#retry = undefined;
    const isDue = this.#compareAll || this.#waiting.size > 0;
    try {
      await this.#open();
      for (let round = 1; !this.#stopped && (this.#compareAll || this.#waiting.size > 0); round += 1) {
        if (round > ROUNDS) {
          this.#tryLater();
          return true;
        }
        await this.#copyWhatDiffers();
      }
      this.#attempts = 0;
      this.#board.mended();
      if (isDue) this.#board.caughtUp();
      return true;
    } catch (error) {
      if (!(error instanceof AuthorityTrouble)) {
        this.#board.trouble(error);
        this.#isOpen &&= isOutage(error);
      }
      this.#tryLater();
      return false;
    }
  }

  async #open(): Promise<void> {
    if (this.#isOpen) return;
    await this.#copier.open();
    this.#isOpen = true;
    this.#board.opened();
  }

  async #copyWhatDiffers(): Promise<void> {
    const isComparison = this.#compareAll;
    this.#compareAll = false;
    const deletions: DocumentChange[] = [];
    try {
      if (isComparison) this.#wait(await this.#copier.differing());
      for (let left = this.#waiting.size; left > 0 && !this.#stopped; left -= LARGEST_BATCH) {
        const keys = [...this.#waiting.keys()].slice(0, Math.min(left, LARGEST_BATCH));
        const remainder = await this.#taking(keys, () => this.#copier.copy(keys));
        this.#wait(remainder.again);
        deletions.push(...remainder.deletions);
      }
      this.#wait(await this.#copier.delete(deletions));
    } catch (error) {
      this.#compareAll ||= isComparison;
      this.#wait(deletions.map(({ key }) => key));
      throw error;
    }
    if (isComparison) this.#board.proved();
  }

  /** What changes while documents are copied waits anew; after a failure all of them do, as long as before. */
  async #taking<T>(keys: readonly DocumentKey[], work: () => Promise<T>): Promise<T> {
    const since = new Map(keys.map((key) => [key, this.#waiting.get(key) ?? this.#parts.clock.now()]));
    for (const key of keys) this.#waiting.delete(key);
    try {
      return await work();
    } catch (error) {
      for (const [key, at] of since) this.#waiting.set(key, at);
      throw error;
    }
  }

  #wait(keys: readonly DocumentKey[]): void {
    const now = this.#parts.clock.now();
    for (const key of keys) if (!this.#waiting.has(key)) this.#waiting.set(key, now);
  }

  #tryLater(): void {
    if (this.#stopped) return;
    this.#retry = this.#parts.clock.after(backoffMs(this.#attempts, this.#parts.random), () => {
      this.#retry = undefined;
      void this.#work();
    });
    this.#attempts += 1;
  }
}
