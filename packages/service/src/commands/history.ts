import {
  hasSubstance,
  Hasher,
  readCredentialPath,
  readDocument,
  readDocumentKey,
  shownName,
  TokenmirrorError,
  type Document,
  type DocumentKey,
  type TokenStore,
  type Version,
} from '@tokenmirror/core';
import type { Settings } from '../options/settings.js';
import type { ReplicaFactory } from '../replica-factory.js';
import { maskedLines } from './masking.js';

export interface HistoryOfDocument {
  readonly name: string;
  /** What the store holds now. */
  readonly now: 'live' | 'deleted' | 'absent';
  readonly versions: readonly Version[];
}

/** The kept versions of one document, newest first, in the authority or in the store `from`. */
export async function listVersions(replicas: ReplicaFactory, name: string, from?: string): Promise<HistoryOfDocument> {
  return withHistory(replicas, from, async (store, history) => {
    const key = keyNamed(name);
    const [entry, versions] = [(await store.read([key])).get(key), await history.versions(key)];
    if (entry === undefined && versions.length === 0) throw unknown(`the store knows no document ${shownName(key)}`);
    return { name: shownName(key), now: entry?.state ?? 'absent', versions };
  });
}

export interface ShownVersion {
  readonly name: string;
  readonly version: string;
  /** `name`, masked value, and whether the current document has it otherwise. */
  readonly fields: readonly {
    readonly name: string;
    readonly value: string;
    readonly compared: 'same' | 'differs' | 'only then' | 'only now';
  }[];
}

/** One version, masked, compared with what the store holds now. */
export async function showVersion(
  replicas: ReplicaFactory,
  settings: Settings,
  { name, id, from }: { readonly name: string; readonly id: string; readonly from: string | undefined },
): Promise<ShownVersion> {
  return withHistory(replicas, from, async (store, _, key) => {
    const { document } = await versionOf(store, keyNamed(name), id, settings);
    const wanted = keyNamed(name);
    const entry = (await store.read([wanted])).get(wanted);
    const reading = entry?.state === 'live' ? readDocument(wanted, entry.content, settings['max-document-size']) : undefined;
    const now = reading?.state === 'document' ? reading.document : undefined;
    const hasher = new Hasher(key);
    const hashesOf = (each: Document | undefined): ReadonlyMap<string, string> =>
      new Map(
        each === undefined
          ? []
          : Object.entries(each.kind === 'credential' ? each.fields : each.values).map(([field, value]) => [
              field,
              hasher.text('shown', JSON.stringify(value)),
            ]),
      );
    const [then, current] = [hashesOf(document), hashesOf(now)];
    const lines = maskedLines(document).map(([field, value]) => ({
      name: field,
      value,
      compared: !current.has(field)
        ? ('only then' as const)
        : current.get(field) === then.get(field)
          ? ('same' as const)
          : ('differs' as const),
    }));
    const added =
      now === undefined
        ? []
        : maskedLines(now)
            .filter(([field]) => !then.has(field))
            .map(([field, value]) => ({ name: field, value, compared: 'only now' as const }));
    return { name: shownName(wanted), version: id, fields: [...lines, ...added] };
  });
}

/** Reads one version, or the newest one that can be used. @throws TokenmirrorError DOCUMENT_UNKNOWN, DOCUMENT_REFUSED */
export async function versionOf(
  store: TokenStore,
  key: DocumentKey,
  id: string | undefined,
  settings: Settings,
): Promise<{ readonly document: Document; readonly id: string }> {
  const versions = id === undefined ? ((await store.history?.versions(key)) ?? []).map((version) => version.id) : [id];
  let problem: string | undefined;
  for (const wanted of versions) {
    const content = await store.history?.content(key, wanted);
    if (content === undefined) continue;
    const reading = readDocument(key, content, settings['max-document-size']);
    const isGutted = reading.state === 'document' && reading.document.kind === 'credential' && !hasSubstance(reading.document.fields);
    if (reading.state === 'document' && !isGutted) return { document: reading.document, id: wanted };
    problem = reading.state === 'document' ? 'it holds no token (a gutted credential)' : reading.reason;
  }
  if (problem === undefined)
    throw unknown(id === undefined ? `there is no earlier version of ${shownName(key)}` : `there is no version ${id} of ${shownName(key)}`);
  throw new TokenmirrorError(
    'DOCUMENT_REFUSED',
    `${id === undefined ? 'no kept version' : `version ${id}`} of ${shownName(key)} can${id === undefined ? '' : 'not'} be used: ${problem}`,
    'Choose another version; `tokenmirror history` lists them.',
  );
}

/** The key that a person means: `claude-a@b.c`, `claude-a@b.c.json`, `auths/…`, or `config`. */
export function keyNamed(name: string): DocumentKey {
  const candidates = name === 'config' || name === 'config.yaml' ? ['config/config.yaml'] : [name, `auths/${name}`, `auths/${name}.json`];
  for (const candidate of candidates) {
    const reading = readDocumentKey(candidate);
    if (reading.ok) return reading.key;
  }
  const problem = readCredentialPath(name);
  throw unknown(`"${shownName(name)}" is not the name of a document${problem.ok ? '' : `: ${problem.reason}`}`);
}

async function withHistory<T>(
  replicas: ReplicaFactory,
  from: string | undefined,
  work: (store: TokenStore, history: NonNullable<TokenStore['history']>, clusterKey: string) => Promise<T>,
): Promise<T> {
  const store = await (from === undefined ? replicas.authority(replicas.locations()) : replicas.place(from));
  try {
    const cluster = await store.open('look');
    if (store.history === undefined)
      throw new TokenmirrorError('STORE_UNSUITABLE', `${store.description} keeps no history`, 'Use a store that does.');
    if (cluster === undefined) throw unknown(`${store.description} has never been used by Tokenmirror`);
    return await work(store, store.history, cluster.key);
  } finally {
    await store.close();
  }
}

function unknown(message: string): TokenmirrorError {
  return new TokenmirrorError('DOCUMENT_UNKNOWN', message, 'See `tokenmirror status` for the documents there are.');
}
