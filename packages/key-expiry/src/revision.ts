import type { Changes, Reader } from './schema.js';

/** Rises with every change that the sync should see. */
export async function revisionOf(db: Reader): Promise<number> {
  const row = await db.selectFrom('tokenmirror_key_meta').select('value').where('name', '=', 'revision').executeTakeFirst();
  return Number(row?.value ?? 0);
}

/** Makes every other process that changes keys wait until this transaction ends; an embedded database lets only one write anyway. */
export async function holdRevision(changes: Changes, isShared: boolean): Promise<void> {
  if (isShared) await changes.selectFrom('tokenmirror_key_meta').select('value').where('name', '=', 'revision').forUpdate().execute();
}

export async function raiseRevision(changes: Changes, isShared: boolean): Promise<void> {
  await holdRevision(changes, isShared);
  const value = String((await revisionOf(changes)) + 1);
  await changes.updateTable('tokenmirror_key_meta').set({ value }).where('name', '=', 'revision').execute();
}
