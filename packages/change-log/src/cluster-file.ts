import { randomBytes, randomUUID } from 'node:crypto';
import { CURRENT_FORMAT, TokenmirrorError, type ClusterIdentity, type FormatStamp } from '@tokenmirror/core';
import type { LogPlace } from './log-place.js';
import { parseStamped } from './stamped-json.js';

const NAME = 'cluster.json';

interface Content extends ClusterIdentity, FormatStamp {
  /** Where appends are announced: the last one that was. */
  readonly head?: number;
  /** Makes every announcement another one, also after the place was restored from a copy. */
  readonly nonce?: string;
}

/** The file that makes a place ours: the cluster's identity and, where looking costs, how far the log has come. */
export class ClusterFile {
  readonly #place: LogPlace;
  readonly #shown: string;
  #content: Content | undefined;
  #stamp: string | undefined;

  constructor(place: LogPlace, shown: string) {
    this.#place = place;
    this.#shown = shown;
  }

  get identity(): ClusterIdentity | undefined {
    return this.#content && { id: this.#content.id, key: this.#content.key };
  }

  /** The number that was announced last, as far as it was read. */
  get announced(): number {
    return this.#content?.head ?? 0;
  }

  async create(): Promise<void> {
    const identity = { id: randomUUID(), key: randomBytes(32).toString('base64url') };
    await this.#place.create(NAME, `${JSON.stringify({ ...CURRENT_FORMAT, ...identity })}\n`);
  }

  async open(): Promise<ClusterIdentity | undefined> {
    this.#content = undefined;
    await this.#read(undefined);
    return this.identity;
  }

  /**
   * Makes sure that the place is still there and still ours. Says whether there may be something new.
   * @throws TokenmirrorError STORE_UNREACHABLE
   */
  async check(): Promise<boolean> {
    const before = this.#content;
    if (before === undefined) return true;
    const changed = await this.#read(this.#stamp);
    const now = changed ? this.#content : before;
    if (now?.id === before.id) return changed || !this.#place.isAnnounced;
    this.#content = before;
    this.#stamp = undefined;
    throw new TokenmirrorError(
      'STORE_UNREACHABLE',
      `the store ${this.#shown} has lost its cluster id or holds another`,
      'Mount or restore the right one, or restart Tokenmirror to look at the new cluster.',
    );
  }

  /** Tells others that the log has come to `head`, unless they were told of more. */
  async announce(head: number): Promise<void> {
    while (this.#content !== undefined) {
      const content: Content = { ...this.#content, head, nonce: randomUUID() };
      const stamp = this.#stamp && (await this.#place.replace(NAME, `${JSON.stringify(content)}\n`, this.#stamp));
      if (stamp !== undefined) {
        this.#content = content;
        this.#stamp = stamp;
        return;
      }
      await this.check();
      if (this.announced >= head) return;
    }
  }

  async #read(unless: string | undefined): Promise<boolean> {
    const reading = await this.#place.read(NAME, unless);
    if (reading === 'unchanged') return false;
    // A file that cannot be read is looked at again each time.
    this.#stamp = undefined;
    this.#content = reading && parseStamped<Content>(reading.text, `${NAME} in ${this.#shown}`);
    this.#stamp = reading?.stamp;
    return true;
  }
}
