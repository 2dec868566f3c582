import {
  digestOf,
  Hasher,
  readDocument,
  readDocumentKey,
  shownName,
  workspaceLens,
  type DocumentKey,
  type HostSections,
} from '@tokenmirror/core';
import type { Settings } from '../options/settings.js';
import type { ReplicaFactory } from '../replica.js';

export interface Comparison {
  readonly name: string;
  readonly result: 'equal' | 'differs' | 'only in the workspace' | 'only in the store' | 'refused';
  /** Which fields differ, or why it was refused. */
  readonly details: string;
}

/** Compares workspace and store document by document, as they are now. Changes nothing. */
export async function verify(replicas: ReplicaFactory, settings: Settings): Promise<readonly Comparison[]> {
  const { store, workspace, cluster, close } = await replicas.look();
  try {
    const hostSections: HostSections = new Set(settings['host-sections']);
    const hasher = new Hasher(cluster.key);
    const lens = workspaceLens(hostSections);
    const [{ files, refused }, listing] = [await workspace.scan(), await store.list()];
    const results: Comparison[] = refused.map(({ name, reason }) => ({ name, result: 'refused', details: reason }));
    const stored: DocumentKey[] = [];
    for (const { name, state } of listing.entries) {
      const reading = readDocumentKey(name);
      if (state === 'live' && reading.ok && workspace.holds(reading.key)) stored.push(reading.key);
      else if (state === 'live' && !reading.ok && !reading.ignored)
        results.push({ name: shownName(name), result: 'refused', details: reading.reason });
    }
    const entries = await store.read(stored);
    for (const key of new Set([...files.map((file) => file.key), ...stored])) {
      const local = await workspace.read(key);
      const entry = entries.get(key);
      const remote = entry?.state === 'live' ? readDocument(key, entry.content, settings['max-document-size']) : undefined;
      const name = shownName(key);
      if (local.state === 'absent') results.push({ name, result: 'only in the store', details: '' });
      else if (local.state !== 'document') results.push({ name, result: 'refused', details: local.reason });
      else if (remote === undefined) results.push({ name, result: 'only in the workspace', details: '' });
      else if (remote.state !== 'document') results.push({ name, result: 'refused', details: `in the store: ${remote.reason}` });
      else {
        const here = digestOf(local.document, hasher, hostSections);
        const there = digestOf(lens.present(remote.document, local.document), hasher, hostSections);
        const fields = [...new Set([...Object.keys(here.fields), ...Object.keys(there.fields)])].filter(
          (field) => here.fields[field] !== there.fields[field],
        );
        if (here.grant !== there.grant) fields.push('grant');
        results.push(
          here.hash === there.hash
            ? { name, result: 'equal', details: '' }
            : { name, result: 'differs', details: fields.map((field) => (field === '' ? '(header)' : field)).join(', ') },
        );
      }
    }
    return results.sort((a, b) => a.name.localeCompare(b.name));
  } finally {
    await close();
  }
}
