import { digestOf } from '../documents/digest.js';
import type { DocumentKey } from '../documents/document-key.js';
import { readDocument } from '../documents/document.js';
import { refreshTokenOf } from '../documents/grant.js';
import type { Fingerprint } from '../documents/hasher.js';
import type { JsonObject } from '../documents/strict-json.js';
import { isStale } from '../planning/lineage.js';
import type { Entry, TokenStore } from '../ports/token-store.js';
import type { ObserverParts } from './observer.js';

interface Searched extends Pick<ObserverParts, 'store' | 'hasher' | 'hostSections' | 'maxDocumentBytes'> {
  readonly elsewhere: () => readonly TokenStore[];
}

/** Looks for a grant in the kept versions of a credential, then in what other stores hold of it, unless they know that it was replaced; the fields of the first that has it whole, else of one without its refresh token. */
export async function findGrant(searched: Searched, key: DocumentKey, wanted: Fingerprint): Promise<JsonObject | undefined> {
  const { store, elsewhere } = searched;
  const own = await find(searched, contentsIn(store, key), key, wanted);
  if (own !== undefined && refreshTokenOf(own) !== undefined) return own;
  let found = own;
  for (const other of elsewhere()) {
    const theirs = await findThere(searched, other, key, wanted).catch(() => undefined);
    if (theirs !== undefined && refreshTokenOf(theirs) !== undefined) return theirs;
    found ??= theirs;
  }
  return found;
}

async function findThere(searched: Searched, other: TokenStore, key: DocumentKey, wanted: Fingerprint): Promise<JsonObject | undefined> {
  const entry = (await other.read([key])).get(key);
  if (isStale(wanted, entry?.lineage ?? [])) return undefined;
  return find(searched, contentsIn(other, key, entry), key, wanted);
}

async function find(
  { hasher, hostSections, maxDocumentBytes }: Searched,
  contents: AsyncIterable<string>,
  key: DocumentKey,
  wanted: Fingerprint,
): Promise<JsonObject | undefined> {
  let found: JsonObject | undefined;
  for await (const content of contents) {
    const reading = readDocument(key, content, maxDocumentBytes);
    if (reading.state !== 'document' || reading.document.kind !== 'credential') continue;
    if (digestOf(reading.document, hasher, hostSections).fingerprint !== wanted) continue;
    if (refreshTokenOf(reading.document.fields) !== undefined) return reading.document.fields;
    found ??= reading.document.fields;
  }
  return found;
}

async function* contentsIn(store: TokenStore, key: DocumentKey, entry?: Entry): AsyncGenerator<string> {
  if (entry?.state === 'live') yield entry.content;
  for (const { id } of (await store.history?.versions(key)) ?? []) {
    const content = await store.history?.content(key, id);
    if (content !== undefined) yield content;
  }
}
