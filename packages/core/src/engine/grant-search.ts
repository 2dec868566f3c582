import { digestOf } from '../documents/digest.js';
import type { DocumentKey } from '../documents/document-key.js';
import { readDocument } from '../documents/document.js';
import type { Fingerprint } from '../documents/hasher.js';
import type { JsonObject } from '../documents/strict-json.js';
import type { ObserverParts } from './observer.js';

/** Looks for a grant in the kept versions of a credential; the fields of the newest one that has it. */
export async function findGrant(
  { store, hasher, hostSections, maxDocumentBytes }: Pick<ObserverParts, 'store' | 'hasher' | 'hostSections' | 'maxDocumentBytes'>,
  key: DocumentKey,
  wanted: Fingerprint,
): Promise<JsonObject | undefined> {
  for (const { id } of (await store.history?.versions(key)) ?? []) {
    const content = await store.history?.content(key, id);
    const reading = content === undefined ? undefined : readDocument(key, content, maxDocumentBytes);
    if (reading?.state !== 'document' || reading.document.kind !== 'credential') continue;
    if (digestOf(reading.document, hasher, hostSections).fingerprint === wanted) return reading.document.fields;
  }
  return undefined;
}
