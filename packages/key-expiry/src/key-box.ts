import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto';

export interface BoxSecret {
  readonly id: string;
  /** At least 32 random bytes. */
  readonly secret: Buffer;
}

const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Keeps clear keys: encrypted, for they have to be pushed, each bound to its row. The first secret encrypts, all of them decrypt. */
export class KeyBox {
  readonly #secrets: readonly [BoxSecret, ...BoxSecret[]];
  readonly #ciphers: ReadonlyMap<string, Buffer>;

  constructor(secrets: readonly [BoxSecret, ...BoxSecret[]]) {
    this.#secrets = secrets;
    this.#ciphers = new Map([...secrets].reverse().map(({ id, secret }) => [id, cipherKey(secret)]));
  }

  seal(key: string, row: string): string {
    const [{ id, secret }] = this.#secrets;
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, this.#ciphers.get(id) ?? cipherKey(secret), nonce);
    cipher.setAAD(Buffer.from(row));
    const data = Buffer.concat([nonce, cipher.update(key, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return `${id}:${data.toString('base64')}`;
  }

  /** `undefined` for what was sealed with another secret, or for another row. */
  open(sealed: string, row: string): string | undefined {
    const at = sealed.lastIndexOf(':');
    const found = this.#ciphers.get(sealed.slice(0, at));
    const data = Buffer.from(sealed.slice(at + 1), 'base64');
    if (found === undefined || data.length < NONCE_BYTES + TAG_BYTES) return undefined;
    try {
      const decipher = createDecipheriv(CIPHER, found, data.subarray(0, NONCE_BYTES));
      decipher.setAAD(Buffer.from(row));
      decipher.setAuthTag(data.subarray(-TAG_BYTES));
      return Buffer.concat([decipher.update(data.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()]).toString('utf8');
    } catch {
      return undefined;
    }
  }

  isCurrent(sealed: string): boolean {
    return sealed.startsWith(`${this.#secrets[0].id}:`);
  }
}

/** By which a key is found again without being known: of no use without the secret. */
export function keyHash(key: string, secret: Buffer): string {
  return createHmac('sha256', secret).update(key).digest('base64url');
}

function cipherKey(secret: Buffer): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', 'tokenmirror api keys', 32));
}
