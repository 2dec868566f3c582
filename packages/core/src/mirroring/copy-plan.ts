import { digestOf } from '../documents/digest.js';
import { CONFIG_KEY, type DocumentKey } from '../documents/document-key.js';
import { credentialFrom, readDocument, type Document } from '../documents/document.js';
import { hasSubstance, issuedOf, refreshTokenOf, withGrantOf } from '../documents/grant.js';
import type { Fingerprint, Hasher } from '../documents/hasher.js';
import { opensTheDoor } from '../planning/config-guard.js';
import { isStale, newestOf, type Lineage } from '../planning/lineage.js';
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
  const kept = mirror?.state === 'live' ? judge(key, mirror, rules) : undefined;
  const copy = kept?.state === 'usable' && mirror?.state === 'live' ? { document: kept.document, entry: mirror } : undefined;
  if (authority === undefined) {
    return copy === undefined ? { kind: 'nothing' } : { kind: 'recover', content: copy.entry.content, lineage: copy.entry.lineage };
  }
  if (authority.state === 'deleted') {
    const isToGo = mirror?.state === 'live' && key !== CONFIG_KEY;
    return isToGo ? { kind: 'delete', lineage: authority.lineage } : { kind: 'nothing' };
  }
  const original = judge(key, authority, rules);
  if (original.state !== 'usable') {
    if (original.state === 'refused' || copy === undefined) return { kind: 'refuse', reason: original.reason };
    return { kind: 'recover', content: withSettingsOf(original.document, copy.document).text, lineage: authority.lineage };
  }
  if (copy === undefined) return { kind: 'write', content: authority.content, lineage: authority.lineage };
  return planOver({ document: original.document, entry: authority }, copy, rules);
}

interface Side {
  readonly document: Document;
  readonly entry: LiveEntry;
}

/** Both sides hold a usable document. */
function planOver(authority: Side, mirror: Side, rules: CopyRules): Copy {
  const { document, entry } = authority;
  if (areEqual(document, mirror.document, rules) && sameLineage(entry.lineage, mirror.entry.lineage)) return { kind: 'nothing' };
  if (isAhead(authority, mirror, rules)) return { kind: 'ahead' };
  if (document.kind === 'config' && mirror.document.kind === 'config') {
    const danger = opensTheDoor(document, mirror.document);
    if (danger !== undefined) return { kind: 'refuse', reason: danger };
  }
  if (document.kind === 'credential' && mirror.document.kind === 'credential') {
    const isStripped = refreshTokenOf(document.fields) === undefined && refreshTokenOf(mirror.document.fields) !== undefined;
    if (isStripped && fingerprintOf(document, rules) === fingerprintOf(mirror.document, rules))
      return { kind: 'recover', content: withSettingsOf(document, mirror.document).text, lineage: entry.lineage };
    if (isStripped) return { kind: 'refuse', reason: 'it has lost its refresh token, and would replace a whole credential' };
  }
  return { kind: 'write', content: entry.content, lineage: entry.lineage };
}

/** True when the mirror's grant came after the authority's, by the lineage of the mirror, or by its dates where the lineage was made by another cluster. */
export function isAhead(authority: Side, mirror: Side, rules: CopyRules): boolean {
  const [here, there] = [fingerprintOf(authority.document, rules), fingerprintOf(mirror.document, rules)];
  if (here === undefined || there === undefined || here === there || authority.entry.lineage.includes(there)) return false;
  const newest = newestOf(mirror.entry.lineage);
  if (newest === there) return isStale(here, mirror.entry.lineage);
  return isLater(mirror.document, authority.document);
}

function isLater(one: Document, other: Document): boolean {
  if (one.kind !== 'credential' || other.kind !== 'credential') return false;
  const others = issuedOf(other.fields);
  for (const { rank, at } of issuedOf(one.fields)) {
    const same = others.find((issued) => issued.rank === rank);
    if (same !== undefined && same.at !== at) return at > same.at;
  }
  return false;
}

type Judgement =
  | { readonly state: 'usable'; readonly document: Document }
  /** Empty, cut or gutted: nothing to lose. */
  | { readonly state: 'empty'; readonly document: Document | undefined; readonly reason: string }
  /** Left as it is: it may be good for another version, or another limit. */
  | { readonly state: 'refused'; readonly reason: string };

function judge(key: DocumentKey, { content }: LiveEntry, { maxDocumentBytes }: CopyRules): Judgement {
  const reading = readDocument(key, content, maxDocumentBytes);
  if (reading.state === 'blank') return { state: 'empty', document: undefined, reason: reading.reason };
  if (reading.state === 'refused')
    return reading.malformed
      ? { state: 'empty', document: undefined, reason: reading.reason }
      : { state: 'refused', reason: reading.reason };
  const { document } = reading;
  if (document.kind === 'config' || hasSubstance(document.fields)) return { state: 'usable', document };
  return { state: 'empty', document, reason: 'it holds no token (a gutted credential)' };
}

/** True for a credential in a store that could authenticate somebody. */
export function isUsable(key: DocumentKey, entry: Entry | undefined, rules: CopyRules): boolean {
  return entry?.state === 'live' && key !== CONFIG_KEY && judge(key, entry, rules).state === 'usable';
}

/** What a gutted or stripped credential still says of its settings counts. */
function withSettingsOf(document: Document | undefined, kept: Document): Document {
  if (kept.kind !== 'credential' || document?.kind !== 'credential') return kept;
  return credentialFrom({ ...kept.fields, ...withGrantOf(document.fields, kept.fields) });
}

function areEqual(a: Document, b: Document, { hasher }: CopyRules): boolean {
  return digestOf(a, hasher, NO_HOST_SECTIONS).hash === digestOf(b, hasher, NO_HOST_SECTIONS).hash;
}

function fingerprintOf(document: Document, { hasher }: CopyRules): Fingerprint | undefined {
  return digestOf(document, hasher, NO_HOST_SECTIONS).fingerprint;
}

function sameLineage(a: Lineage, b: Lineage): boolean {
  return a.length === b.length && a.every((fingerprint, n) => fingerprint === b[n]);
}

/** In a store everything of a config counts. */
const NO_HOST_SECTIONS: ReadonlySet<string> = new Set();

/** Why what one mirror has must not go back into the authority, as another mirror shows; `undefined` when nothing speaks against it. */
export function objection(key: DocumentKey, copy: LiveEntry, other: Entry | undefined, rules: CopyRules): string | undefined {
  if (other?.state === 'deleted') return 'another mirror says that it was deleted; `restore --from` brings it back';
  const [mine, theirs] = [judge(key, copy, rules), other?.state === 'live' ? judge(key, other, rules) : undefined];
  if (mine.state !== 'usable' || theirs?.state !== 'usable' || other?.state !== 'live') return undefined;
  const isOlder = isAhead({ document: mine.document, entry: copy }, { document: theirs.document, entry: other }, rules);
  return isOlder ? 'another mirror has a newer one' : undefined;
}
