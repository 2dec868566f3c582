import { recordKey, type DocumentKey, type RecordKey } from '../documents/document-key.js';
import type { Fingerprint, Hasher } from '../documents/hasher.js';
import { checkFormat, CURRENT_FORMAT } from '../format-version.js';
import type { TokenStore } from '../ports/token-store.js';

/** That somebody wants a credential refreshed before its time, for its access token died. `at` is by the store's clock, in ms since the epoch. */
export interface Ask {
  readonly document: DocumentKey;
  readonly grant: Fingerprint;
  readonly at: number;
}

const PREFIX = 'ask-';
/** A token that dies again so soon after it was asked for is not asked for again: something else is wrong. */
const PAUSE_MS = 10 * 60_000;

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

  /** Asks every replica to refresh a grant. `too soon`: one was asked for a moment ago; a person may insist. */
  async ask(document: DocumentKey, grant: Fingerprint, who: 'proxy' | 'person'): Promise<'asked' | 'too soon'> {
    const key = recordKey('custody', PREFIX + this.#hasher.text('document', document));
    for (;;) {
      const entry = (await this.#store.read([key])).get(key);
      const before = entry?.state === 'live' ? parse(entry.content, key) : undefined;
      if (before?.grant === grant && who === 'proxy') return 'asked';
      const at = await this.#store.now();
      if (who === 'proxy' && before !== undefined && at - before.at < PAUSE_MS) return 'too soon';
      const content = JSON.stringify({ ...CURRENT_FORMAT, document, grant, at });
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
