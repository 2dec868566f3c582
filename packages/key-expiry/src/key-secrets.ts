import { randomBytes } from 'node:crypto';
import { TokenmirrorError } from '@tokenmirror/core';
import type { Database } from '@tokenmirror/database';
import { generateSentinel } from './api-key.js';
import { KeyBox, keyHash, type BoxSecret } from './key-box.js';
import type { Changes, KeyTables } from './schema.js';

const HASH_SECRET = 'hash-secret';

/** What a registry hashes and encrypts with; made with its tables, and kept in them. */
export class KeySecrets {
  /** A key that nobody has: it keeps a list from becoming empty. */
  readonly sentinel: string;
  readonly #box: KeyBox;
  readonly #hashSecret: Buffer;

  private constructor(description: string, secrets: readonly BoxSecret[], own: ReadonlyMap<string, string>) {
    this.sentinel = own.get('sentinel') ?? '';
    const fallback: BoxSecret = { id: 'own', secret: Buffer.from(own.get('box-secret') ?? '', 'base64') };
    const [first = fallback, ...rest] = secrets;
    this.#box = new KeyBox([first, ...rest, fallback]);
    this.#hashSecret = this.#hashSecretIn(own.get(HASH_SECRET) ?? '', description);
  }

  /** What stands under an older secret is encrypted anew. @throws TokenmirrorError ENCRYPTION_KEY, STORE_UNREACHABLE */
  static open(database: Database<KeyTables>, secrets: readonly BoxSecret[]): Promise<KeySecrets> {
    const made = {
      revision: '0',
      sentinel: generateSentinel(),
      [HASH_SECRET]: randomBytes(32).toString('base64'),
      'box-secret': randomBytes(32).toString('base64'),
    };
    return database.change(async (changes) => {
      await changes
        .insertInto('tokenmirror_key_meta')
        .values(Object.entries(made).map(([name, value]) => ({ name, value })))
        .onConflict((conflict) => conflict.column('name').doNothing())
        .execute();
      const rows = await changes.selectFrom('tokenmirror_key_meta').selectAll().execute();
      const own = new Map(rows.map(({ name, value }) => [name, value]));
      const opened = new KeySecrets(database.description, secrets, own);
      await opened.#sealAnew(changes, own.get(HASH_SECRET) ?? '');
      return opened;
    });
  }

  /** By which a key, or a name, is found again without being known. */
  hashOf(text: string): string {
    return keyHash(text, this.#hashSecret);
  }

  /** Encrypts what has to be told again, bound to its row. */
  seal(text: string, row: string): string {
    return this.#box.seal(text, row);
  }

  /** `undefined` for nothing, and for what none of the secrets opens. */
  unseal(sealed: string | null | undefined, row: string): string | undefined {
    return sealed == null ? undefined : this.#box.open(sealed, row);
  }

  /** By itself until it is sealed at the first start: with it a hash can be tried out. */
  #hashSecretIn(written: string, description: string): Buffer {
    const text = written.includes(':') ? this.#box.open(written, HASH_SECRET) : written;
    if (text !== undefined) return Buffer.from(text, 'base64');
    throw new TokenmirrorError(
      'ENCRYPTION_KEY',
      `the registry of keys in ${description} was written with another secret`,
      'Give the encryption key with which it was made, or restore the .secret file beside the database.',
    );
  }

  async #sealAnew(changes: Changes, hashSecret: string): Promise<void> {
    if (!this.#box.isCurrent(hashSecret))
      await changes
        .updateTable('tokenmirror_key_meta')
        .set({ value: this.#box.seal(this.#hashSecret.toString('base64'), HASH_SECRET) })
        .where('name', '=', HASH_SECRET)
        .where('value', '=', hashSecret)
        .execute();
    const rows = await changes.selectFrom('tokenmirror_keys').selectAll().where('sealed', 'is not', null).execute();
    for (const { id, sealed } of rows) {
      const key = sealed === null || this.#box.isCurrent(sealed) ? undefined : this.#box.open(sealed, id);
      if (key === undefined) continue;
      await changes
        .updateTable('tokenmirror_keys')
        .set({ sealed: this.#box.seal(key, id) })
        .where('id', '=', id)
        .where('sealed', '=', sealed)
        .execute();
    }
  }
}
