import {
  readDocumentKey,
  TokenmirrorError,
  type Cursor,
  type Entry,
  type Listing,
  type Revision,
  type StoreKey,
  type TokenStore,
} from '@tokenmirror/core';
import type { DirectoryWorkspace } from './directory-workspace.js';

/** A workspace as a store that can only be read: the source of a migration. */
export function workspaceSource(workspace: DirectoryWorkspace): TokenStore {
  const readOnly = (): never => {
    throw new TokenmirrorError(
      'STORE_DENIED',
      `${workspace.description} is a workspace and can only be read here`,
      'Use `tokenmirror run` or `sync` to bring documents into it.',
    );
  };
  return {
    description: `workspace ${workspace.description}`,
    open: () => Promise.resolve(undefined),
    list: async (): Promise<Listing> => {
      const { files, refused } = await workspace.scan();
      const names = [...files.map(({ key }) => key as string), ...refused.map(({ name }) => `auths/${name}`)];
      return { entries: names.map((name) => ({ name, state: 'live', revision: '' as Revision })), cursor: '' as Cursor, complete: true };
    },
    read: (keys: readonly StoreKey[]) => {
      const entries = new Map<StoreKey, Entry>();
      for (const name of keys) {
        const reading = readDocumentKey(name);
        const content = reading.ok ? workspace.rawText(reading.key) : undefined;
        if (content !== undefined) entries.set(name, { state: 'live', key: name, revision: '' as Revision, content, lineage: [] });
      }
      return Promise.resolve(entries);
    },
    write: readOnly,
    now: () => Promise.resolve(Date.now()),
    close: () => Promise.resolve(),
  };
}
