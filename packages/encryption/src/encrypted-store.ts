import {
  readDocumentKey,
  TokenmirrorError,
  UNREADABLE,
  type Change,
  type ClusterIdentity,
  type Cursor,
  type DocumentKey,
  type Entry,
  type History,
  type Listing,
  type StopWatching,
  type StoreKey,
  type TokenStore,
  type WriteOutcome,
} from '@tokenmirror/core';
import { readEnvelope, seal, unseal } from './envelope.js';
import type { Keyring } from './keyring.js';

/** Under which key a document stands in the store; `undefined` for plain text. */
export type EncryptedUnder = string | undefined;

/**
 * A store around a store: documents are encrypted before they reach it, its history included; records of ours hold no secrets and stay as they are. Without a key
 * nothing is encrypted, and what was encrypted is refused: taken for a document without tokens it would be overwritten.
 */
export class EncryptedStore implements TokenStore {
  readonly #store: TokenStore;
  readonly #keys: Keyring;
  #cluster = '';
  readonly watch?: NonNullable<TokenStore['watch']>;
  readonly history?: History;

  constructor(store: TokenStore, keys: Keyring) {
    this.#store = store;
    this.#keys = keys;
    if (store.watch !== undefined)
      this.watch = (hint): Promise<StopWatching> => store.watch?.(hint) ?? Promise.reject(new Error('it cannot be watched'));
    if (store.history !== undefined) this.history = this.#historyOf(store.history);
  }

  get description(): string {
    return this.#store.description;
  }

  async open(mode: 'create' | 'look'): Promise<ClusterIdentity | undefined> {
    const identity = await this.#store.open(mode);
    this.#cluster = identity?.id ?? '';
    return identity;
  }

  list(since?: Cursor): Promise<Listing> {
    return this.#store.list(since);
  }

  async read(keys: readonly StoreKey[]): Promise<ReadonlyMap<StoreKey, Entry>> {
    const entries = await this.#store.read(keys);
    return new Map(
      [...entries].map(([key, entry]) => [key, entry.state === 'live' ? { ...entry, content: this.#plain(key, entry.content) } : entry]),
    );
  }

  write(changes: readonly Change[], author: string, how?: 'together'): Promise<readonly WriteOutcome[]> {
    return this.#store.write(
      changes.map((change) => (change.content === null ? change : { ...change, content: this.#sealed(change.key, change.content) })),
      author,
      how,
    );
  }

  now(): Promise<number> {
    return this.#store.now();
  }

  close(): Promise<void> {
    return this.#store.close();
  }

  /** Under which key each of these documents stands. */
  async encryptedUnder(keys: readonly DocumentKey[]): Promise<ReadonlyMap<DocumentKey, EncryptedUnder>> {
    const entries = await this.#store.read(keys);
    return new Map(
      keys.flatMap((key): [DocumentKey, EncryptedUnder][] => {
        const entry = entries.get(key);
        return entry?.state === 'live' ? [[key, readEnvelope(entry.content)?.keyId]] : [];
      }),
    );
  }

  #historyOf(history: History): History {
    return {
      versions: (key) => history.versions(key),
      content: async (key, id) => {
        const content = await history.content(key, id);
        return content === undefined ? undefined : this.#ofThePast(key, content);
      },
      archive: async (key, content, reason, author) => {
        if (!(await this.#isKept(history, key, content, reason))) await history.archive(key, this.#sealed(key, content), reason, author);
      },
    };
  }

  /** The same content encrypted twice is not the same for the store, which keeps equal ones once. */
  async #isKept(history: History, key: DocumentKey, content: string, reason: string): Promise<boolean> {
    if (this.#keys.current === undefined) return false;
    const alike = (await history.versions(key)).filter((version) => version.reason === reason);
    for (const { id } of alike) {
      const kept = await history.content(key, id);
      if (kept !== undefined && this.#ofThePast(key, kept) === content) return true;
    }
    return false;
  }

  /** A kept version. `undefined` where its key was taken away since: it counts as one that is not kept any more. */
  #ofThePast(key: DocumentKey, content: string): string | undefined {
    const envelope = readEnvelope(content);
    if (envelope !== undefined && this.#keys.find(envelope.keyId) === undefined) return undefined;
    const plain = this.#plain(key, content);
    return plain === UNREADABLE ? undefined : plain;
  }

  #sealed(key: StoreKey, content: string): string {
    const { current } = this.#keys;
    const document = documentKeyOf(key);
    return current === undefined || document === undefined ? content : seal(content, current, { cluster: this.#cluster, key: document });
  }

  /** @throws TokenmirrorError ENCRYPTION_KEY where the key is missing */
  #plain(key: StoreKey, content: string): string {
    const document = documentKeyOf(key);
    const envelope = document === undefined ? undefined : readEnvelope(content);
    if (document === undefined || envelope === undefined) return content;
    const found = this.#keys.find(envelope.keyId);
    if (found === undefined)
      throw new TokenmirrorError(
        'ENCRYPTION_KEY',
        `${this.description} is encrypted with the key ${envelope.keyId.slice(0, 40)}, which this replica does not have`,
        this.#keys.ids.length === 0
          ? 'Set encryption-keys or encryption-key-file.'
          : `It has: ${this.#keys.ids.join(', ')}. Add the missing one behind them.`,
      );
    return unseal(envelope, found, { cluster: this.#cluster, key: document }) ?? UNREADABLE;
  }
}

function documentKeyOf(key: StoreKey): DocumentKey | undefined {
  const reading = readDocumentKey(key);
  return reading.ok ? reading.key : undefined;
}
