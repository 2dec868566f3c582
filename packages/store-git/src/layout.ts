import { hash } from 'node:crypto';
import { readDocumentKey, readRecordKey, type StoreKey } from '@tokenmirror/core';

const OWN = '.tokenmirror';
const RECORDS = `${OWN}/records/`;
const ENTRY = new RegExp(`^${OWN}/entries/[0-9a-f]{2}/([0-9a-f]{40})-([0-9a-f]{40}|deleted)\\.json$`);

export const CLUSTER_PATH = `${OWN}/cluster.json`;
/** Git keeps no empty directories; CLIProxyAPI keeps these two so. */
export const KEPT_PATHS = ['auths/.gitkeep', 'config/.gitkeep'];

/** Names an entry in paths of bounded length. */
export type KeyHash = string;

export function hashOf(key: string): KeyHash {
  return hash('sha256', key, 'hex').slice(0, 40);
}

/** Where the content of a document or record stands. */
export function contentPath(key: StoreKey): string {
  return readDocumentKey(key).ok ? key : RECORDS + key;
}

/** What stands at a path: a content with its name, which is not trusted, or nothing of ours. */
export function nameAt(path: string): string | undefined {
  if (path.startsWith(RECORDS)) return readRecordKey(path.slice(RECORDS.length));
  const reading = readDocumentKey(path);
  return reading.ok || !reading.ignored ? path : undefined;
}

/**
 * Where the lineage of a document stands. The blob that it belongs to is part of the name, so that the tree alone tells which contents somebody else
 * wrote or removed. Spread over 256 directories, so that a change in a large repository writes small trees.
 */
export function entryPath(keyHash: KeyHash, blob: string | undefined): string {
  return `${OWN}/entries/${keyHash.slice(0, 2)}/${keyHash}-${blob ?? 'deleted'}.json`;
}

export function readEntryPath(path: string): { readonly keyHash: KeyHash; readonly blob: string | undefined } | undefined {
  const [, keyHash, blob] = ENTRY.exec(path) ?? [];
  return keyHash === undefined ? undefined : { keyHash, blob: blob === 'deleted' ? undefined : blob };
}

/** Where the earlier versions of a document stand. */
export function historyDirectory(keyHash: KeyHash): string {
  return `${OWN}/history/${keyHash.slice(0, 2)}/${keyHash}`;
}
