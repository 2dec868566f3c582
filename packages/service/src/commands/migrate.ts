import {
  digestOf,
  extendLineage,
  Hasher,
  isCredentialKey,
  readDocument,
  readDocumentKey,
  shownName,
  TokenmirrorError,
  type Change,
  type DocumentKey,
  type TokenStore,
} from '@tokenmirror/core';
import type { Settings } from '../options/settings.js';

export interface Migrated {
  readonly name: string;
  /** `copied` now, `there` already, or why not. */
  readonly result: 'copied' | 'would be copied' | 'there' | 'differs' | 'refused';
  readonly details: string;
}

export interface MigrationProgress {
  readonly done: number;
  readonly total: number;
}

const BATCH = 500;

/**
 * Copies every living document of one store into another and reads each of them back. The source is only read. What the target has already, and
 * otherwise, is left as it is and reported. Interrupted or repeated, it goes on where it was.
 */
export async function migrate(
  source: TokenStore,
  target: TokenStore,
  settings: Settings,
  dryRun: boolean,
  progress: (progress: MigrationProgress) => void,
): Promise<readonly Migrated[]> {
  const fromIdentity = await source.open('look');
  const toIdentity = await target.open(dryRun ? 'look' : 'create');
  if (fromIdentity !== undefined && fromIdentity.id === toIdentity?.id) {
    throw new TokenmirrorError('STORE_INVALID', 'source and target are the same store', 'Name two different ones.');
  }
  const hasher = new Hasher(toIdentity?.key ?? 'a dry run on a new store');
  const listing = await source.list();
  const results: Migrated[] = [];
  const keys: DocumentKey[] = [];
  for (const entry of listing.entries) {
    const reading = readDocumentKey(entry.name);
    if (reading.ok) keys.push(reading.key);
    else if (!reading.ignored && entry.state === 'live')
      results.push({ name: shownName(entry.name), result: 'refused', details: reading.reason });
  }
  const total = keys.length;
  if (total + results.length === 0) {
    throw new TokenmirrorError('DOCUMENT_UNKNOWN', `there is nothing to copy in ${source.description}`, 'Check the name of the source.');
  }
  progress({ done: 0, total });
  for (let at = 0; at < total; at += BATCH) {
    results.push(...(await copy(keys.slice(at, at + BATCH), { source, target, settings, hasher, dryRun })));
    progress({ done: Math.min(total, at + BATCH), total });
  }
  return results.sort((a, b) => a.name.localeCompare(b.name));
}

interface Context {
  readonly source: TokenStore;
  readonly target: TokenStore;
  readonly settings: Settings;
  readonly hasher: Hasher;
  readonly dryRun: boolean;
}

async function copy(keys: readonly DocumentKey[], { source, target, settings, hasher, dryRun }: Context): Promise<Migrated[]> {
  const noHostSections = new Set<string>();
  const results: Migrated[] = [];
  const note = (key: DocumentKey, result: Migrated['result'], details = ''): void => {
    results.push({ name: shownName(key), result, details });
  };
  const digest = (key: DocumentKey, content: string) => {
    const reading = readDocument(key, content, settings['max-document-size']);
    return reading.state === 'document'
      ? { reading, digest: digestOf(reading.document, hasher, noHostSections) }
      : { reading, digest: undefined };
  };
  const [entries, existing] = [await source.read(keys), await target.read(keys)];
  const changes: Change[] = [];
  const wanted = new Map<DocumentKey, string | undefined>();
  for (const key of keys) {
    const [entry, there] = [entries.get(key), existing.get(key)];
    if (entry?.state !== 'live') continue;
    const { reading, digest: found } = digest(key, entry.content);
    if (reading.state !== 'document' || found === undefined) {
      note(key, 'refused', reading.state === 'document' ? '' : reading.reason);
    } else if (there?.state === 'live') {
      const same = digest(key, there.content).digest?.hash === found.hash;
      note(key, same ? 'there' : 'differs', same ? '' : 'the target has another content, which was left as it is');
    } else if (there?.state === 'deleted') {
      note(key, 'differs', 'it was deleted in the target, which was left so');
    } else if (dryRun) {
      note(key, 'would be copied');
    } else {
      wanted.set(key, found.hash);
      changes.push({
        key,
        expected: 'absent',
        content: entry.content,
        lineage: isCredentialKey(key) ? extendLineage([], found.fingerprint) : [],
      });
    }
  }
  const outcomes = await target.write(changes, 'migrate');
  const readBack = await target.read([...wanted.keys()]);
  changes.forEach(({ key }, index) => {
    const outcome = outcomes[index];
    const stored = readBack.get(key);
    if (outcome?.status === 'unacceptable') note(key as DocumentKey, 'refused', `the target cannot hold it: ${outcome.reason}`);
    else if (stored?.state === 'live' && digest(key as DocumentKey, stored.content).digest?.hash === wanted.get(key as DocumentKey))
      note(key as DocumentKey, 'copied');
    else note(key as DocumentKey, 'differs', 'somebody else wrote it meanwhile');
  });
  return results;
}
