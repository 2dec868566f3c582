import {
  credentialFrom,
  digestOf,
  expiryOf,
  extendLineage,
  Hasher,
  readDocument,
  shownName,
  TokenmirrorError,
  withGrantOf,
  type Document,
} from '@tokenmirror/core';
import type { Settings } from '../options/settings.js';
import type { ReplicaFactory } from '../replica.js';
import { keyNamed, versionOf } from './history.js';

export interface RestoreRequest {
  readonly name: string;
  /** A version id; the newest when absent. */
  readonly version: string | undefined;
  /** Brings the old grant back too. */
  readonly grant: boolean;
}

export interface RestoreResult {
  readonly name: string;
  readonly version: string;
  readonly restored: 'document' | 'settings' | 'settings and grant' | 'nothing, it is like that already';
}

/**
 * Brings a version back into the store, from where every replica takes it. A live credential keeps its grant: an old one of a provider with single-use
 * refresh tokens is dead, and presenting it kills the living one.
 * @throws TokenmirrorError DOCUMENT_UNKNOWN, DOCUMENT_REFUSED, GRANT_ALIVE
 */
export async function restore(
  replicas: ReplicaFactory,
  settings: Settings,
  { name, version, grant }: RestoreRequest,
): Promise<RestoreResult> {
  const key = keyNamed(name);
  const { store, cluster, close } = await replicas.look();
  try {
    const { document, id } = await versionOf(store, key, version, settings);
    const hasher = new Hasher(cluster.key);
    const hostSections = new Set(settings['host-sections']);
    for (;;) {
      const entry = (await store.read([key])).get(key);
      const reading = entry?.state === 'live' ? readDocument(key, entry.content, settings['max-document-size']) : undefined;
      const now = reading?.state === 'document' ? reading.document : undefined;
      const { target, restored } = combine(document, now, grant, name);
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

function combine(
  then: Document,
  now: Document | undefined,
  withGrant: boolean,
  name: string,
): { target: Document; restored: RestoreResult['restored'] } {
  if (now === undefined) return { target: then, restored: 'document' };
  if (then.kind !== 'credential' || now.kind !== 'credential') return { target: then, restored: 'settings' };
  if (!withGrant) return { target: credentialFrom(withGrantOf(then.fields, now.fields)), restored: 'settings' };
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
