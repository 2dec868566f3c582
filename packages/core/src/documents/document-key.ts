declare const keyBrand: unique symbol;

/** The name of a replicated file, `auths/<relative path>` or `config/config.yaml`, `/`-separated and safe to join to a root. */
export type DocumentKey = string & { readonly [keyBrand]: 'document' };

/** The name of a record of ours in a store, `<collection>/<name>`; never a file of the workspace. */
export type RecordKey = string & { readonly [keyBrand]: 'record' };

export type StoreKey = DocumentKey | RecordKey;

export const CONFIG_KEY = 'config/config.yaml' as DocumentKey;
export const AUTH_PREFIX = 'auths/';

const MAX_NAME_BYTES = 255;
const MAX_KEY_BYTES = 1024;
const RECORD_COLLECTIONS = ['replicas', 'claims', 'custody', 'mirrors', 'usage'] as const;
export type RecordCollection = (typeof RECORD_COLLECTIONS)[number];

export type KeyReading =
  | { readonly ok: true; readonly key: DocumentKey }
  /** Files that are not ours to replicate: temporary, hidden, foreign. */
  | { readonly ok: false; readonly ignored: true; readonly reason: string }
  /** Names that could do harm, or that some place cannot hold. */
  | { readonly ok: false; readonly ignored: false; readonly reason: string };

/** Reads a name that came from a directory, a database or a bucket. Nothing about it is trusted. */
export function readDocumentKey(name: string): KeyReading {
  if (name === CONFIG_KEY) return { ok: true, key: CONFIG_KEY };
  if (!name.startsWith(AUTH_PREFIX)) return ignored('it is neither below auths/ nor config/config.yaml');
  const path = name.slice(AUTH_PREFIX.length);
  const danger = dangerIn(path);
  if (danger !== undefined) return { ok: false, ignored: false, reason: danger };
  const segments = path.split('/');
  if (segments.some((segment) => segment.startsWith('.'))) return ignored('it is a hidden file');
  if (!path.endsWith('.json')) return ignored('it is not a .json file');
  if (path.endsWith('/.json') || path === '.json') return ignored('it has no name');
  return { ok: true, key: name as DocumentKey };
}

/** The key of a credential by its path below `auths/`. */
export function readCredentialPath(path: string): KeyReading {
  return readDocumentKey(AUTH_PREFIX + path);
}

export function isCredentialKey(key: StoreKey): key is DocumentKey {
  return key.startsWith(AUTH_PREFIX);
}

/** The path of a credential below `auths/`. */
export function credentialPath(key: DocumentKey): string {
  return key.slice(AUTH_PREFIX.length);
}

export function recordKey(collection: RecordCollection, name: string): RecordKey {
  return `${collection}/${name}` as RecordKey;
}

export function readRecordKey(name: string): RecordKey | undefined {
  const [collection, rest] = [name.slice(0, name.indexOf('/')), name.slice(name.indexOf('/') + 1)];
  const known = (RECORD_COLLECTIONS as readonly string[]).includes(collection);
  return known && /^[A-Za-z0-9_-]{1,128}$/.test(rest) ? (name as RecordKey) : undefined;
}

/** A name as it may be shown: control characters made visible, length bounded. */
export function shownName(name: string): string {
  const visible = name.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return visible.length > 120 ? `${visible.slice(0, 117)}...` : visible;
}

function ignored(reason: string): KeyReading {
  return { ok: false, ignored: true, reason };
}

function dangerIn(path: string): string | undefined {
  if (path.startsWith('/') || /^[A-Za-z]:/.test(path)) return 'it is an absolute path';
  if (path.includes('\\')) return 'it contains a backslash';
  if (/\p{Cc}/u.test(path)) return 'it contains control characters';
  if (!path.isWellFormed()) return 'it is not valid Unicode';
  const segments = path.split('/');
  if (segments.includes('')) return 'it has an empty path segment';
  if (segments.some((segment) => segment === '.' || segment === '..')) return 'it leaves its directory';
  if (segments.some((segment) => Buffer.byteLength(segment) > MAX_NAME_BYTES))
    return `a name is longer than ${String(MAX_NAME_BYTES)} bytes`;
  if (Buffer.byteLength(path) > MAX_KEY_BYTES) return `the path is longer than ${String(MAX_KEY_BYTES)} bytes`;
  return undefined;
}
