import {
  accessTokenOf,
  credentialFrom,
  digestOf,
  expiryOf,
  extendLineage,
  Hasher,
  isStale,
  newestOf,
  opensTheDoor,
  readDocument,
  refreshTokenOf,
  shownName,
  TokenmirrorError,
  withGrantOf,
  type Document,
  type DocumentKey,
  type HostSections,
  type Lineage,
  type TokenStore,
} from '@tokenmirror/core';
import type { Settings } from '../options/settings.js';
import type { ReplicaFactory } from '../replica-factory.js';
import { keyNamed, versionOf } from './history.js';

export interface RestoreRequest {
  readonly name: string;
  /** A version id; the newest when absent. */
  readonly version: string | undefined;
  /** A mirror or another store; the authority's own history when absent. */
  readonly from: string | undefined;
  /** Brings the old grant back too. */
  readonly grant: boolean;
}

export interface RestoreResult {
  readonly name: string;
  readonly version: string;
  readonly restored: 'document' | 'settings' | 'settings and grant' | 'nothing, it is like that already';
}

/** What is to come back. */
interface Candidate {
  readonly document: Document;
  readonly id: string;
  /** The lineage it had where it comes from, when it is what stands there now. */
  readonly lineage: Lineage;
}

/**
 * Brings a version back into the store, from where every replica takes it. A live credential keeps its grant: an old one of a provider with single-use
 * refresh tokens is dead, and presenting it kills the living one.
 * @throws TokenmirrorError DOCUMENT_UNKNOWN, DOCUMENT_REFUSED, GRANT_ALIVE
 */
export async function restore(
  replicas: ReplicaFactory,
  settings: Settings,
  { name, version, from, grant }: RestoreRequest,
): Promise<RestoreResult> {
  const key = keyNamed(name);
  const { store, cluster, close } = await replicas.look();
  try {
    const candidate = await (from === undefined
      ? fromHistory(store, key, version, settings)
      : fromElsewhere(await replicas.place(from), key, version, settings));
    const { id } = candidate;
    const hasher = new Hasher(cluster.key);
    const hostSections = new Set(settings['host-sections']);
    for (;;) {
      const entry = (await store.read([key])).get(key);
      const reading = entry?.state === 'live' ? readDocument(key, entry.content, settings['max-document-size']) : undefined;
      const now = reading?.state === 'document' ? reading.document : undefined;
      const { target, restored } = combine(candidate, now, { grant, name, isNewer: isNewerGrant(candidate, now, hasher, hostSections) });
      const digest = digestOf(target, hasher, hostSections);
      if (now !== undefined && digestOf(now, hasher, hostSections).hash === digest.hash)
        return { name: shownName(key), version: id, restored: 'nothing, it is like that already' };
      const lineage = extendLineage(entry?.lineage ?? [], digest.fingerprint);
      const [outcome] = await store.write([{ key, expected: entry?.revision ?? 'absent', content: target.text, lineage }], 'restore');
      if (outcome?.status === 'written') return { name: shownName(key), version: id, restored };
      if (outcome?.status === 'unacceptable')
        throw new TokenmirrorError(
          'DOCUMENT_REFUSED',
          `${shownName(key)} cannot be kept by ${store.description}: ${outcome.reason}`,
          'Choose another version.',
        );
    }
  } finally {
    await close();
  }
}

async function fromHistory(store: TokenStore, key: DocumentKey, version: string | undefined, settings: Settings): Promise<Candidate> {
  return { ...(await versionOf(store, key, version, settings)), lineage: [] };
}

async function fromElsewhere(store: TokenStore, key: DocumentKey, version: string | undefined, settings: Settings): Promise<Candidate> {
  try {
    await store.open('look');
    const entry = version === undefined ? (await store.read([key])).get(key) : undefined;
    const reading = entry?.state === 'live' ? readDocument(key, entry.content, settings['max-document-size']) : undefined;
    if (entry !== undefined && reading?.state === 'document') return { document: reading.document, id: 'now', lineage: entry.lineage };
    return await fromHistory(store, key, version, settings);
  } finally {
    await store.close();
  }
}

/** True for a grant that came after the current one: the authority went back in time, and this one is the one in use. */
function isNewerGrant({ document, lineage }: Candidate, now: Document | undefined, hasher: Hasher, hostSections: HostSections): boolean {
  if (now === undefined || document.kind !== 'credential') return false;
  const isTheNewest = newestOf(lineage) === digestOf(document, hasher, hostSections).fingerprint;
  return isTheNewest && isStale(digestOf(now, hasher, hostSections).fingerprint, lineage);
}

/** A config that would serve everyone, or lock everyone out, is for nobody to pull. */
function refuseDangerous(then: Document, now: Document | undefined, name: string): void {
  if (then.kind !== 'config' || now?.kind !== 'config') return;
  const danger = opensTheDoor(then, now);
  if (danger !== undefined)
    throw new TokenmirrorError(
      'DOCUMENT_REFUSED',
      `that version of ${shownName(name)} cannot be restored: ${danger}`,
      'Choose another version with --to.',
    );
}

/** The current grant without its refresh token, which the other one still has. */
function isWhole(then: Document, now: Document): boolean {
  if (then.kind !== 'credential' || now.kind !== 'credential') return false;
  const isSame = accessTokenOf(then.fields) !== undefined && accessTokenOf(then.fields) === accessTokenOf(now.fields);
  return isSame && refreshTokenOf(then.fields) !== undefined && refreshTokenOf(now.fields) === undefined;
}

function combine(
  { document: then }: Candidate,
  now: Document | undefined,
  { grant, name, isNewer }: { readonly grant: boolean; readonly name: string; readonly isNewer: boolean },
): { target: Document; restored: RestoreResult['restored'] } {
  refuseDangerous(then, now, name);
  if (now === undefined) return { target: then, restored: 'document' };
  if (isWhole(then, now)) return { target: then, restored: 'settings and grant' };
  if (then.kind !== 'credential' || now.kind !== 'credential') return { target: then, restored: 'settings' };
  if (isNewer) return { target: then, restored: 'settings and grant' };
  if (!grant) return { target: credentialFrom(withGrantOf(then.fields, now.fields)), restored: 'settings' };
  const expiry = expiryOf(now.fields);
  if (expiry === undefined || expiry > Date.now()) {
    throw new TokenmirrorError(
      'GRANT_ALIVE',
      `the current grant of ${shownName(name)} still works`,
      'Leave out --grant: the settings come back, and the grant in use stays. An old grant would be dead at the provider, and would take the living one with it.',
    );
  }
  return { target: then, restored: 'settings and grant' };
}
