import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { CONFIG_KEY, type DocumentKey } from '@tokenmirror/core';
import type { EncryptionKey } from './keyring.js';

const CIPHER = 'aes-256-gcm';
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const VERSION = 1;
const FIELD = 'tokenmirror_encrypted';
/** No YAML begins like this: CLIProxyAPI refuses such a config. Taken for one without api-keys, it would serve everybody. */
const CONFIG_MARK = ']';

/** What stands in a store instead of a document. */
export interface Envelope {
  readonly keyId: string;
  /** Nonce, ciphertext and tag. */
  readonly data: Buffer;
}

/** What the ciphertext is bound to: it cannot be moved to another document, cluster or key. */
export interface Binding {
  readonly cluster: string;
  readonly key: DocumentKey;
}

export function seal(text: string, { id, secret }: EncryptionKey, binding: Binding): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(CIPHER, secret, nonce);
  cipher.setAAD(aad(binding, id));
  const data = Buffer.concat([nonce, cipher.update(text, 'utf8'), cipher.final(), cipher.getAuthTag()]);
  const json = JSON.stringify({ [FIELD]: { version: VERSION, key: id, data: data.toString('base64') } });
  return binding.key === CONFIG_KEY ? `${CONFIG_MARK}${json}\n` : json;
}

/** `undefined` for what is no envelope. */
export function readEnvelope(content: string): Envelope | undefined {
  const text = content.startsWith(CONFIG_MARK) ? content.slice(CONFIG_MARK.length) : content;
  if (!text.includes(FIELD)) return undefined;
  try {
    const found = (JSON.parse(text) as Record<string, { version?: unknown; key?: unknown; data?: unknown } | undefined>)[FIELD];
    if (typeof found?.version === 'number' && found.version > VERSION)
      return { keyId: `of a newer format (${String(found.version)})`, data: Buffer.alloc(0) };
    if (found?.version !== VERSION || typeof found.key !== 'string' || typeof found.data !== 'string') return undefined;
    return { keyId: found.key, data: Buffer.from(found.data, 'base64') };
  } catch {
    return undefined;
  }
}

/** `undefined` for what was changed, or belongs to another document or cluster. */
export function unseal({ data }: Envelope, { id, secret }: EncryptionKey, binding: Binding): string | undefined {
  if (data.length < NONCE_BYTES + TAG_BYTES) return undefined;
  try {
    const decipher = createDecipheriv(CIPHER, secret, data.subarray(0, NONCE_BYTES));
    decipher.setAAD(aad(binding, id));
    decipher.setAuthTag(data.subarray(data.length - TAG_BYTES));
    return Buffer.concat([decipher.update(data.subarray(NONCE_BYTES, data.length - TAG_BYTES)), decipher.final()]).toString('utf8');
  } catch {
    return undefined;
  }
}

function aad({ cluster, key }: Binding, keyId: string): Buffer {
  return Buffer.from(JSON.stringify(['tokenmirror', VERSION, cluster, key, keyId]));
}
