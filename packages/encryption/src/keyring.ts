import { createHash, randomBytes } from 'node:crypto';
import { TokenmirrorError } from '@tokenmirror/core';

/** Bytes of a key for AES-256. */
const KEY_BYTES = 32;

export interface EncryptionKey {
  /** Its name, and a check of its secret: stands beside everything that was encrypted with it, and tells it from another one of that name. */
  readonly id: string;
  readonly secret: Buffer;
}

/** In the place of the first key: everything is decrypted, and nothing encrypted, as long as other replicas do not have the key yet. */
const NONE = 'none';

/** The keys that this replica has: the first one encrypts, all of them decrypt. */
export class Keyring {
  readonly #keys: readonly EncryptionKey[];
  readonly #encrypts: boolean;

  constructor(keys: readonly EncryptionKey[], encrypts = true) {
    this.#keys = keys;
    this.#encrypts = encrypts;
  }

  /** `undefined` where nothing is to be encrypted. */
  get current(): EncryptionKey | undefined {
    return this.#encrypts ? this.#keys[0] : undefined;
  }

  find(id: string): EncryptionKey | undefined {
    return this.#keys.find((key) => key.id === id);
  }

  /** All of them, the one that encrypts first. */
  get all(): readonly EncryptionKey[] {
    return this.#keys;
  }

  get ids(): readonly string[] {
    return this.#keys.map(({ id }) => id);
  }
}

/** Reads `id:base64` words, separated by commas, blanks or line ends; lines that begin with # are comments; `none` in front encrypts nothing. @throws TokenmirrorError OPTION_INVALID, without what was given */
export function parseKeys(text: string, where: string): Keyring {
  const words = text
    .split('\n')
    .filter((line) => !line.trim().startsWith('#'))
    .flatMap((line) => line.split(/[\s,]+/))
    .filter((word) => word !== '');
  const encrypts = words[0] !== NONE;
  const keys = (encrypts ? words : words.slice(1)).map((word, n): EncryptionKey => {
    const [, id, encoded] = /^([A-Za-z0-9._-]{1,40}):([A-Za-z0-9+/_-]+={0,2})$/.exec(word) ?? [];
    const secret = Buffer.from(encoded ?? '', 'base64');
    if (id !== undefined && secret.length === KEY_BYTES) return { id: `${id}~${checkOf(secret)}`, secret };
    throw new TokenmirrorError(
      'OPTION_INVALID',
      `key ${String(n + 1)} in ${where} cannot be used`,
      'Write each as name:base64 of 32 bytes, as `tokenmirror encryption generate-key` prints it.',
    );
  });
  const twice = keys.find(({ id }, n) => keys.findIndex((other) => nameOf(other) === nameOf({ id })) !== n);
  if (twice !== undefined)
    throw new TokenmirrorError('OPTION_INVALID', `the key ${nameOf(twice)} stands twice in ${where}`, 'Give every key its own name.');
  return new Keyring(keys, encrypts);
}

function nameOf({ id }: Pick<EncryptionKey, 'id'>): string {
  return id.split('~')[0] ?? id;
}

function checkOf(secret: Buffer): string {
  return createHash('sha256').update('tokenmirror key check').update(secret).digest('hex').slice(0, 8);
}

/** A new key, as it is written into the settings. */
export function generateKey(id: string): string {
  return `${id}:${randomBytes(KEY_BYTES).toString('base64')}`;
}
