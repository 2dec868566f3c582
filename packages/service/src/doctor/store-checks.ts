import { messageOf, recordKey, TokenmirrorError, type TokenStore } from '@tokenmirror/core';
import { attention, failed, ok, type Finding } from './finding.js';

const RECORD = recordKey('custody', 'doctor');
/** Ages of claims are told by the store's clock; a laptop may be this far off without harm. */
const LARGEST_SKEW_MS = 30_000;

/** A place: is it in reach, may it be written, does a compare-and-set hold, and is its clock right. A small record is written and taken away again. */
export async function checkStore(store: TokenStore, name: string): Promise<Finding[]> {
  try {
    const cluster = await store.open('look');
    const { entries } = await store.list();
    if (cluster === undefined)
      return [
        attention(name, `${store.description} is in reach, and was never used by Tokenmirror`, 'Run `tokenmirror sync`, which sets it up.'),
      ];
    await store.open('create');
    const asked = Date.now();
    const skew = (await store.now()) - (asked + Date.now()) / 2;
    const findings = [ok(name, `${store.description} is in reach, with ${String(entries.length)} entries`), await checkWrites(store, name)];
    if (Math.abs(skew) > LARGEST_SKEW_MS)
      findings.push(
        attention(
          `${name} clock`,
          `it is ${String(Math.round(Math.abs(skew) / 1000))} s ${skew > 0 ? 'ahead of' : 'behind'} this machine's`,
          'Keep both in step with NTP: custody tells by it how old a claim is.',
        ),
      );
    return findings;
  } catch (error) {
    return [failed(name, messageOf(error), error instanceof TokenmirrorError ? error.remedy : 'Please report this.')];
  } finally {
    await store.close();
  }
}

async function checkWrites(store: TokenStore, name: string): Promise<Finding> {
  const check = `${name} writes`;
  const before = (await store.read([RECORD])).get(RECORD);
  const write = async (expected: typeof before, content: string | null): Promise<boolean> => {
    const [outcome] = await store.write([{ key: RECORD, expected: expected?.revision ?? 'absent', content, lineage: [] }], 'doctor');
    return outcome?.status === 'written';
  };
  const isPermitted = await write(before, JSON.stringify({ at: Date.now() }));
  if (!isPermitted) return attention(check, 'a write was refused, for somebody else wrote at the same moment', 'Run it again.');
  const isStaleTaken = await write(before, JSON.stringify({ at: 0 }));
  const now = (await store.read([RECORD])).get(RECORD);
  await write(now, null);
  return isStaleTaken
    ? failed(
        check,
        'a write on top of a newer one was taken: this store does not keep conditions',
        'Use another store as the authority; this one can be a mirror.',
      )
    : ok(check, 'it can be written, and refuses a write on top of a newer one');
}
