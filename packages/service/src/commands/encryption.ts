import { readDocumentKey, shownName, UNREADABLE, type DocumentKey } from '@tokenmirror/core';
import { generateKey, type EncryptedStore, type EncryptedUnder } from '@tokenmirror/encryption';
import type { Settings } from '../options/settings.js';
import type { ReplicaFactory } from '../replica-factory.js';
import { encryptionKeys } from '../stores/encryption-keys.js';

/** How the documents of one place are encrypted. */
export interface EncryptionReport {
  readonly place: string;
  /** How many documents stand under each key; `plain` for those that are not encrypted. */
  readonly documents: Readonly<Record<string, number>>;
  /** How many of them are under the current key. */
  readonly current: number;
  readonly total: number;
}

export interface Rotation {
  readonly place: string;
  readonly rewritten: number;
  /** Documents that changed meanwhile, to be rotated again, or cannot be decrypted. */
  readonly left: readonly string[];
}

const AT_ONCE = 200;
const PLAIN = 'plain';

/** A key named by the day, as it is written into the settings. */
export function newKey(now: Date): string {
  return generateKey(`key-${now.toISOString().slice(0, 10)}`);
}

/** Under which keys the documents of the authority and its mirrors stand. */
export async function encryptionStatus(replicas: ReplicaFactory, settings: Settings): Promise<EncryptionReport[]> {
  const current = encryptionKeys(settings).current?.id ?? PLAIN;
  return inEveryPlace(replicas, async (store) => {
    const documents: Record<string, number> = {};
    for (const [, under] of await lookAt(store)) documents[under ?? PLAIN] = (documents[under ?? PLAIN] ?? 0) + 1;
    const total = Object.values(documents).reduce((sum, count) => sum + count, 0);
    return { place: store.description, documents, current: documents[current] ?? 0, total };
  });
}

/** Writes everything that is not under the current key anew, in every place. Each write is a compare-and-set; a daemon may be at work. */
export async function rotateEncryption(replicas: ReplicaFactory, settings: Settings): Promise<Rotation[]> {
  const current = encryptionKeys(settings).current?.id;
  return inEveryPlace(replicas, async (store) => {
    const keys = [...(await lookAt(store))].filter(([, under]) => under !== current).map(([key]) => key);
    const left: string[] = [];
    for (let at = 0; at < keys.length; at += AT_ONCE) {
      const found = [...(await store.read(keys.slice(at, at + AT_ONCE))).values()].filter((entry) => entry.state === 'live');
      const entries = found.filter(({ content }) => content !== UNREADABLE);
      left.push(...found.filter(({ content }) => content === UNREADABLE).map(({ key }) => shownName(key)));
      const changes = entries.map(({ key, revision, content, lineage }) => ({ key, expected: revision, content, lineage }));
      const outcomes = await store.write(changes, 'encryption');
      outcomes.forEach(({ status }, n) => {
        if (status !== 'written') left.push(shownName(changes[n]?.key ?? ''));
      });
    }
    return { place: store.description, rewritten: keys.length - left.length, left };
  });
}

async function lookAt(store: EncryptedStore): Promise<ReadonlyMap<DocumentKey, EncryptedUnder>> {
  const { entries } = await store.list();
  const keys = entries.flatMap(({ name, state }): DocumentKey[] => {
    const reading = readDocumentKey(name);
    return reading.ok && state === 'live' ? [reading.key] : [];
  });
  const found = new Map<DocumentKey, EncryptedUnder>();
  for (let at = 0; at < keys.length; at += AT_ONCE)
    for (const [key, under] of await store.encryptedUnder(keys.slice(at, at + AT_ONCE))) found.set(key, under);
  return found;
}

async function inEveryPlace<T>(replicas: ReplicaFactory, work: (store: EncryptedStore) => Promise<T>): Promise<T[]> {
  const locations = replicas.locations();
  const authority = await replicas.authority(locations);
  const mirrors = await replicas.mirrors(authority, locations);
  const results: T[] = [];
  for (const store of [authority, ...mirrors.map((mirror) => mirror.store)]) {
    try {
      await store.open('look');
      results.push(await work(store));
    } finally {
      await store.close();
    }
  }
  return results;
}
