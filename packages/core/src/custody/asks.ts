import { recordKey, type DocumentKey, type RecordKey } from '../documents/document-key.js';
import type { Fingerprint, Hasher } from '../documents/hasher.js';
import { checkFormat, CURRENT_FORMAT } from '../format-version.js';
import type { TokenStore } from '../ports/token-store.js';

/** That somebody wants a credential refreshed before its time, for its access token died. `at` is by the store's clock, in ms since the epoch. */
export interface Ask {
  readonly document: DocumentKey;
  readonly grant: Fingerprint;
  readonly at: number;
  /** How many in a row came soon after the one before. */
  readonly times: number;
}

const PREFIX = 'ask-';
/** A token that dies again right after a refresh is not refreshed again and again: the pause doubles. */
const FIRST_PAUSE_MS = 6 * 60_000;
const LONGEST_PAUSE_MS = 3 * 60 * 60_000;
/** After so long the row is over. */
const FORGOTTEN_MS = 12 * 60 * 60_000;

/** The asks of a cluster: one record for each document that ever had one. A grant that was replaced answers its ask. */
export class Asks {
  readonly #store: TokenStore;
  readonly #replica: string;
  readonly #hasher: Hasher;

  constructor(store: TokenStore, replica: string, hasher: Hasher) {
    this.#store = store;
    this.#replica = replica;
    this.#hasher = hasher;
  }

  isAsk(key: RecordKey): boolean {
    return key.startsWith(`custody/${PREFIX}`);
  }

  async read(key: RecordKey): Promise<Ask | undefined> {
    const entry = (await this.#store.read([key])).get(key);
    return entry?.state === 'live' ? parse(entry.content, key) : undefined;
  }

  /** Asks every replica to refresh a grant. A person's wish is never too soon. */
  async ask(document: DocumentKey, grant: Fingerprint, by: 'replica' | 'person' = 'replica'): Promise<'asked' | 'too soon'> {
    const key = recordKey('custody', PREFIX + this.#hasher.text('document', document));
    for (;;) {
      const entry = (await this.#store.read([key])).get(key);
      const at = await this.#store.now();
      const last = entry?.state === 'live' ? parse(entry.content, key) : undefined;
      if (by === 'replica' && last !== undefined) {
        if (last.grant === grant) return 'asked';
        if (at - last.at < Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (last.times - 1))) return 'too soon';
      }
      const times = last === undefined || at - last.at > FORGOTTEN_MS ? 1 : last.times + 1;
      const content = JSON.stringify({ ...CURRENT_FORMAT, document, grant, at, times });
      const [outcome] = await this.#store.write([{ key, expected: entry?.revision ?? 'absent', content, lineage: [] }], this.#replica);
      if (outcome?.status === 'written') return 'asked';
    }
  }
}

function parse(text: string, key: RecordKey): Ask | undefined {
  try {
    const ask = JSON.parse(text) as Ask;
    checkFormat(ask, `the record ${key} in the store`);
    return ask;
  } catch {
    return undefined;
  }
}
