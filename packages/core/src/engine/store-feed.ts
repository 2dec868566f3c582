import type { Cursor, Listing, TokenStore } from '../ports/token-store.js';

export interface StoreFeedParts {
  readonly store: TokenStore;
  /** While this is so, nothing is asked. */
  readonly isPaused: () => boolean;
  /** Takes what changed; the position moves on when it has. */
  readonly take: (listing: Listing) => Promise<void>;
  /** Runs what nobody waits for. */
  readonly background: (task: Promise<void>) => void;
}

/** What changes in the store, from a position on; never asked for twice at once. */
export class StoreFeed {
  readonly #parts: StoreFeedParts;
  #cursor: Cursor | undefined;
  #asking: Promise<void> | undefined;
  #askAgain = false;

  constructor(parts: StoreFeedParts) {
    this.#parts = parts;
  }

  /** Everything there is; the feed goes on from there. */
  async everything(): Promise<Listing> {
    const listing = await this.#parts.store.list();
    this.#cursor = listing.cursor;
    return listing;
  }

  /** Something may have changed. */
  hint(): void {
    if (this.#asking !== undefined) this.#askAgain = true;
    else this.#parts.background(this.ask());
  }

  ask(): Promise<void> {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
      if (!this.#askAgain) return;
      this.#askAgain = false;
      this.hint();
    });
    return this.#asking;
  }

  async #ask(): Promise<void> {
    if (this.#parts.isPaused()) return;
    const listing = await this.#parts.store.list(this.#cursor);
    await this.#parts.take(listing);
    this.#cursor = listing.cursor;
  }
}
