import { digestOf } from '../documents/digest.js';
import type { DocumentKey } from '../documents/document-key.js';
import { credentialFrom, readDocument, type Document } from '../documents/document.js';
import { hasSubstance, withGrantOf } from '../documents/grant.js';
import type { Hasher } from '../documents/hasher.js';
import { opensTheDoor } from '../planning/config-guard.js';
import { isStale, type Lineage } from '../planning/lineage.js';
import type { Entry, LiveEntry } from '../ports/token-store.js';

/** What a mirror needs, document by document. */
export type Copy =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'write'; readonly content: string; readonly lineage: Lineage }
  | { readonly kind: 'delete'; readonly lineage: Lineage }
  /** The authority has neither the document nor a tombstone, or something that cannot be used; the mirror's copy goes there. */
  | { readonly kind: 'recover'; readonly content: string; readonly lineage: Lineage }
  /** The mirror holds a grant that came after the authority's: the authority went back in time. Nothing is done until somebody restores. */
  | { readonly kind: 'ahead' }
  | { readonly kind: 'refuse'; readonly reason: string };

export interface CopyRules {
  readonly hasher: Hasher;
  readonly maxDocumentBytes: number;
}

/** Decides what becomes of one document of a mirror. Pure. The authority wins, but for what would destroy the better copy. */
export function planCopy(key: DocumentKey, authority: Entry | undefined, mirror: Entry | undefined, rules: CopyRules): Copy {
  const kept = mirror?.state === 'live' ? usable(key, mirror, rules) : undefined;
  if (authority === undefined) {
    if (mirror?.state !== 'live' || typeof kept !== 'object') return { kind: 'nothing' };
    return { kind: 'recover', content: mirror.content, lineage: mirror.lineage };
  }
  if (authority.state === 'deleted') return mirror?.state === 'live' ? { kind: 'delete', lineage: authority.lineage } : { kind: 'nothing' };
  const document = usable(key, authority, rules);
  if (typeof document === 'string') {
    if (typeof kept !== 'object') return { kind: 'refuse', reason: document };
    return { kind: 'recover', content: withSettingsOf(key, authority, kept, rules).text, lineage: authority.lineage };
  }
  if (typeof kept === 'object') {
    if (areEqual(document, kept, rules) && mirror !== undefined && sameLineage(authority.lineage, mirror.lineage))
      return { kind: 'nothing' };
    if (mirror !== undefined && isStale(fingerprintOf(document, rules), mirror.lineage)) return { kind: 'ahead' };
    const danger = document.kind === 'config' && kept.kind === 'config' ? opensTheDoor(document, kept) : undefined;
    if (danger !== undefined) return { kind: 'refuse', reason: danger };
  }
  return { kind: 'write', content: authority.content, lineage: authority.lineage };
}

/** The document that an entry holds, or why it is none that may replace another. */
function usable(key: DocumentKey, { content }: LiveEntry, { maxDocumentBytes }: CopyRules): Document | string {
  const reading = readDocument(key, content, maxDocumentBytes);
  if (reading.state !== 'document') return reading.reason;
  const { document } = reading;
  return document.kind === 'config' || hasSubstance(document.fields) ? document : 'it holds no token (a gutted credential)';
}

/** What a gutted credential still says of its settings counts. */
function withSettingsOf(key: DocumentKey, { content }: LiveEntry, kept: Document, { maxDocumentBytes }: CopyRules): Document {
  const reading = readDocument(key, content, maxDocumentBytes);
  if (kept.kind !== 'credential' || reading.state !== 'document' || reading.document.kind !== 'credential') return kept;
  return credentialFrom({ ...kept.fields, ...withGrantOf(reading.document.fields, kept.fields) });
}

function areEqual(a: Document, b: Document, { hasher }: CopyRules): boolean {
  return digestOf(a, hasher, NO_HOST_SECTIONS).hash === digestOf(b, hasher, NO_HOST_SECTIONS).hash;
}

function fingerprintOf(document: Document, { hasher }: CopyRules) {
  return digestOf(document, hasher, NO_HOST_SECTIONS).fingerprint;
}

function sameLineage(a: Lineage, b: Lineage): boolean {
  return a.length === b.length && a.every((fingerprint, n) => fingerprint === b[n]);
}

/** In a store everything of a config counts. */
const NO_HOST_SECTIONS: ReadonlySet<string> = new Set();
