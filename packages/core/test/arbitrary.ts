import fc from 'fast-check';
import {
  digestOf,
  Hasher,
  readDocument,
  type Digest,
  type Document,
  type DocumentKey,
  type JsonObject,
  type Lineage,
  type Local,
  type Remote,
  type Revision,
} from '@tokenmirror/core';

export const KEY = 'auths/claude-a@example.com.json' as DocumentKey;
export const hasher = new Hasher('a cluster key for tests');
export const HOST_SECTIONS = new Set(['host', 'port', 'tls', 'auth-dir']);

export function digest(document: Document): Digest {
  return digestOf(document, hasher, HOST_SECTIONS);
}

export function credentialOf(fields: JsonObject): Document {
  return parsed(KEY, JSON.stringify(fields));
}

export function configOf(text: string): Document {
  return parsed('config/config.yaml' as DocumentKey, text);
}

export function localOf(document: Document): Extract<Local, { state: 'document' }> {
  return { state: 'document', document, absorbed: digest(document), digest: digest(document) };
}

export function remoteOf(document: Document, revision = 'r1', lineage?: Lineage): Extract<Remote, { state: 'document' }> {
  const found = digest(document);
  const own = found.fingerprint === undefined ? [] : [found.fingerprint];
  return { state: 'document', revision: revision as Revision, lineage: lineage ?? own, document, digest: found };
}

/** Grants with numbers that say when they were issued, so that a test can tell which is newest. */
export function grant(n: number): JsonObject {
  return {
    access_token: `access-${String(n)}`,
    refresh_token: `refresh-${String(n)}`,
    expired: new Date(1_760_000_000_000 + n * 60_000).toISOString(),
  };
}

const settingValue = fc.oneof(fc.boolean(), fc.integer({ min: 0, max: 3 }), fc.constantFrom('a', 'b', ''));
export const settings: fc.Arbitrary<JsonObject> = fc.dictionary(
  fc.constantFrom('disabled', 'note', 'proxy_url', 'priority', 'headers'),
  settingValue,
  { maxKeys: 5 },
);

export const credentials: fc.Arbitrary<JsonObject> = fc
  .tuple(settings, fc.integer({ min: 1, max: 4 }))
  .map(([chosen, n]) => ({ type: 'claude', ...chosen, ...grant(n) }));

function parsed(key: DocumentKey, text: string): Document {
  const reading = readDocument(key, text);
  if (reading.state !== 'document') throw new Error(`not a document: ${reading.reason}`);
  return reading.document;
}
