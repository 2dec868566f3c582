import {
  digestOf,
  Hasher,
  messageOf,
  readDocument,
  readDocumentKey,
  shownName,
  TokenmirrorError,
  type Digest,
  type Document,
  type DocumentKey,
  type HostSections,
  type Lens,
  type TokenStore,
  type Workspace,
} from '@tokenmirror/core';
import type { Settings } from '../options/settings.js';
import type { ReplicaFactory } from '../replica-factory.js';

export interface Comparison {
  /** `workspace`, the name of a mirror, or the directory of a peer. */
  readonly place: string;
  readonly name: string;
  readonly result: 'equal' | 'differs' | 'only here' | 'only in the authority' | 'refused';
  /** Which fields differ, or why it was refused. */
  readonly details: string;
}

/** What is compared: documents by key, or why they cannot be compared. */
type Content = ReadonlyMap<DocumentKey, Document | { readonly refused: string }>;

interface Authority {
  readonly content: Content;
  readonly refused: readonly { readonly name: string; readonly reason: string }[];
}

interface Rules {
  readonly hasher: Hasher;
  readonly hostSections: HostSections;
  readonly maxDocumentBytes: number;
}

/** Compares every place with the authority, document by document, as they are now. Changes nothing. */
export async function verify(replicas: ReplicaFactory, settings: Settings): Promise<readonly Comparison[]> {
  const { store, workspace, cluster, lens, mirrors, peers, close } = await replicas.look();
  try {
    const rules: Rules = {
      hasher: new Hasher(cluster.key),
      hostSections: new Set(settings['host-sections']),
      maxDocumentBytes: settings['max-document-size'],
    };
    const authority = await contentOf(store, rules);
    const results = [
      ...refusedAt('workspace', authority.refused),
      ...(await compareWorkspace('workspace', workspace, authority, lens, rules)),
    ];
    for (const peer of peers) results.push(...(await compareWorkspace(peer.description, peer, authority, replicas.sealedLens, rules)));
    const whole = { ...rules, hostSections: new Set<string>(), hasher: new Hasher(cluster.key) };
    for (const { name, store: mirror } of mirrors) results.push(...(await compareMirror(name, mirror, authority, whole)));
    return results;
  } finally {
    await close();
  }
}

async function compareWorkspace(
  place: string,
  workspace: Workspace,
  authority: Authority,
  lens: Lens,
  rules: Rules,
): Promise<Comparison[]> {
  const { files, refused } = await workspace.scan();
  const here = new Map<DocumentKey, Document | { readonly refused: string }>();
  for (const { key } of files) {
    const reading = await workspace.read(key);
    if (reading.state === 'document') here.set(key, reading.document);
    else if (reading.state !== 'absent') here.set(key, { refused: reading.reason });
  }
  const there = new Map([...authority.content].filter(([key]) => workspace.holds(key)));
  return [...refusedAt(place, refused), ...compare(place, here, there, rules, lens)];
}

async function compareMirror(place: string, mirror: TokenStore, authority: Authority, rules: Rules): Promise<Comparison[]> {
  try {
    await mirror.open('look');
    const { content, refused } = await contentOf(mirror, rules);
    return [...refusedAt(place, refused), ...compare(place, content, authority.content, rules)];
  } catch (error) {
    if (!(error instanceof TokenmirrorError)) throw error;
    return [{ place, name: '', result: 'refused', details: messageOf(error) }];
  } finally {
    await mirror.close();
  }
}

function compare(place: string, here: Content, there: Content, rules: Rules, lens?: Lens): Comparison[] {
  const results = [...new Set([...here.keys(), ...there.keys()])].map((key): Comparison => {
    const name = shownName(key);
    const [local, stored] = [here.get(key), there.get(key)];
    if (local === undefined) return { place, name, result: 'only in the authority', details: '' };
    if ('refused' in local) return { place, name, result: 'refused', details: local.refused };
    if (stored === undefined) return { place, name, result: 'only here', details: '' };
    if ('refused' in stored) return { place, name, result: 'refused', details: `in the authority: ${stored.refused}` };
    const shown = lens === undefined ? stored : lens.present(stored, local);
    const [mine, theirs] = [local, shown].map((document) => digestOf(document, rules.hasher, rules.hostSections)) as [Digest, Digest];
    if (mine.hash === theirs.hash) return { place, name, result: 'equal', details: '' };
    return { place, name, result: 'differs', details: differing(mine, theirs).join(', ') };
  });
  return results.sort((a, b) => a.name.localeCompare(b.name));
}

/** Names of the fields or sections that differ, never values. */
function differing(mine: Digest, theirs: Digest): string[] {
  const names = [...new Set([...Object.keys(mine.fields), ...Object.keys(theirs.fields)])].filter(
    (name) => mine.fields[name] !== theirs.fields[name],
  );
  return [...names.map((name) => (name === '' ? '(header)' : name)), ...(mine.grant === theirs.grant ? [] : ['grant'])];
}

async function contentOf(store: TokenStore, { maxDocumentBytes }: Rules): Promise<Authority> {
  const refused: { name: string; reason: string }[] = [];
  const keys: DocumentKey[] = [];
  for (const { name, state } of (await store.list()).entries) {
    const reading = readDocumentKey(name);
    if (state === 'live' && reading.ok) keys.push(reading.key);
    else if (state === 'live' && !reading.ok && !reading.ignored) refused.push({ name: shownName(name), reason: reading.reason });
  }
  const content = new Map<DocumentKey, Document | { readonly refused: string }>();
  for (const [key, entry] of await store.read(keys)) {
    if (entry.state !== 'live') continue;
    const reading = readDocument(key as DocumentKey, entry.content, maxDocumentBytes);
    content.set(key as DocumentKey, reading.state === 'document' ? reading.document : { refused: reading.reason });
  }
  return { content, refused };
}

function refusedAt(place: string, refused: readonly { readonly name: string; readonly reason: string }[]): Comparison[] {
  return refused.map(({ name, reason }) => ({ place, name, result: 'refused', details: reason }));
}
