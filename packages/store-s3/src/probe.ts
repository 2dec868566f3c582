import { randomUUID } from 'node:crypto';
import type { Bucket, Condition, Conditions } from './bucket.js';
import { refusalIn } from './s3-errors.js';

/** Tries on an object of its own what the bucket does with conditions; the object is gone afterwards. */
export async function probeConditions(bucket: Bucket): Promise<Conditions> {
  const name = `.tokenmirror/probe-${randomUUID()}`;
  const put = async (text: string, condition?: Condition): Promise<string | undefined> => {
    const etag = await bucket.put(name, text, 'text/plain', condition);
    if (etag !== undefined) return etag;
    // The answer to a write that happened may have been lost, and its repetition refused.
    const found = await bucket.get(name);
    return typeof found === 'object' && found.text === text ? found.etag : undefined;
  };
  bucket.conditions = { create: 'honoured', replace: 'honoured' };
  try {
    const create = await isHonoured(put('1', 'absent'), () => put('2', 'absent'));
    const stamp = await bucket.head(name);
    const etag = stamp ?? (await put('3')) ?? '';
    const wrong = 'f'.repeat(32);
    let replace: Conditions['replace'] = 'ignored';
    if (await isHonoured(put('4', { etag }), () => put('5', { etag: wrong }))) replace = 'honoured';
    else {
      bucket.conditions = { create: 'honoured', replace: 'unquoted' };
      const now = (await bucket.head(name)) ?? '';
      if (await isHonoured(put('6', { etag: now }), () => put('7', { etag: wrong }))) replace = 'unquoted';
    }
    await bucket.delete(name).catch(() => undefined);
    return { create: create ? 'honoured' : 'ignored', replace };
  } catch (error) {
    // Nobody waits for a server that does not answer.
    void bucket.delete(name).catch(() => undefined);
    throw error;
  }
}

/** True when the write that must happen did, and the one that must not did not. */
async function isHonoured(permitted: Promise<string | undefined>, forbidden: () => Promise<string | undefined>): Promise<boolean> {
  try {
    return (await permitted) !== undefined && (await forbidden()) === undefined;
  } catch (error) {
    if (refusalIn(error) === 'unsupported') return false;
    throw error;
  }
}
