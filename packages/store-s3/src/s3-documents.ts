import { createHash } from 'node:crypto';
import { CONFIG_KEY, readDocumentKey, type DocumentKey } from '@tokenmirror/core';
import { ABSENT, type PlainFile, type PlainPlace, type Reading } from '@tokenmirror/change-log';
import type { Bucket } from './bucket.js';

/** The documents as objects, laid out as CLIProxyAPI does it in its own object store. */
export class S3Documents implements PlainPlace {
  readonly #bucket: Bucket;

  constructor(bucket: Bucket) {
    this.#bucket = bucket;
  }

  /** The ETag of an object that was written in one piece. Where a bucket is encrypted with a key of KMS it is another one, and objects are read once to know them. */
  readonly stampFor = (content: string): string => createHash('md5').update(content).digest('hex');

  async scan(): Promise<ReadonlyMap<string, string>> {
    const found = new Map<string, string>();
    for (const folder of ['auths', 'config']) {
      for await (const { name, etag } of this.#bucket.list(folder)) {
        const reading = readDocumentKey(name);
        if (reading.ok || !reading.ignored) found.set(name, etag);
      }
    }
    return found;
  }

  async read(key: DocumentKey, unless?: string): Promise<Reading<PlainFile>> {
    const found = await this.#bucket.get(key, unless);
    return typeof found === 'object' ? { text: found.text, stamp: found.etag, ageMs: Infinity } : found;
  }

  write(key: DocumentKey, content: string, expected: string | undefined): Promise<string | undefined> {
    const condition = expected === ABSENT ? ABSENT : expected === undefined ? undefined : { etag: expected };
    return this.#bucket.put(key, content, key === CONFIG_KEY ? 'application/x-yaml' : 'application/json', condition);
  }

  /** Few providers know a conditional DELETE, so it is looked at first. */
  async remove(key: DocumentKey, expected: string | undefined): Promise<boolean> {
    const found = await this.#bucket.head(key);
    if (found === undefined) return true;
    if (expected !== undefined && found !== expected) return false;
    await this.#bucket.delete(key);
    return true;
  }
}
