import { readDocument, readDocumentKey, type DocumentKey, type Lens, type TokenStore, type Workspace } from '@tokenmirror/core';

const AT_ONCE = 200;

/** Writes the documents of a store into a workspace, as the lens shows them, where no file stands. Returns how many were written. */
export async function fillWorkspace(workspace: Workspace, store: TokenStore, lens: Lens, maxDocumentBytes: number): Promise<number> {
  await store.open('look');
  const { entries } = await store.list();
  const keys = entries.flatMap(({ name, state }): DocumentKey[] => {
    const reading = readDocumentKey(name);
    return reading.ok && state === 'live' && workspace.holds(reading.key) ? [reading.key] : [];
  });
  let written = 0;
  for (let at = 0; at < keys.length; at += AT_ONCE) {
    const some = keys.slice(at, at + AT_ONCE);
    const found = await store.read(some);
    for (const key of some) {
      const entry = found.get(key);
      const reading = entry?.state === 'live' ? readDocument(key, entry.content, maxDocumentBytes) : undefined;
      if (reading?.state !== 'document') continue;
      const outcome = await workspace.write(key, lens.present(reading.document, undefined), undefined);
      if (outcome.status === 'written') written += 1;
    }
  }
  return written;
}
