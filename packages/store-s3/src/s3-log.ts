import { TokenmirrorError } from '@tokenmirror/core';
import type { ListedFile, LogPlace, Reading } from '@tokenmirror/change-log';
import type { Bucket } from './bucket.js';
import { probeConditions } from './probe.js';

const FOLDER = '.tokenmirror';
const JSON_TYPE = 'application/json';

/** The log as objects below `.tokenmirror/`. Every request costs time and money, so appends are announced, and an idle look is one conditional read. */
export class S3Log implements LogPlace {
  readonly isAnnounced = true;
  readonly #bucket: Bucket;
  readonly #shown: string;
  readonly #mayDecide: boolean;

  constructor(bucket: Bucket, options: { readonly shown: string; readonly mayDecide: boolean }) {
    this.#bucket = bucket;
    this.#shown = options.shown;
    this.#mayDecide = options.mayDecide;
  }

  async prepare(): Promise<void> {
    const conditions = await probeConditions(this.#bucket);
    this.#bucket.conditions = conditions;
    if (!this.#mayDecide || (conditions.create === 'honoured' && conditions.replace !== 'ignored')) return;
    const ignored = [
      ...(conditions.create === 'ignored' ? ['If-None-Match'] : []),
      ...(conditions.replace === 'ignored' ? ['If-Match'] : []),
    ];
    throw new TokenmirrorError(
      'STORE_UNSUITABLE',
      `object storage ${this.#shown} does not honour ${ignored.join(' and ')} on writes, so two replicas could overwrite each other there`,
      'Use it as a mirror (--mirrors), and another store as the authority; or a provider that does: AWS S3, Cloudflare R2, MinIO, Ceph.',
    );
  }

  async create(name: string, text: string): Promise<string | undefined> {
    const etag = await this.#bucket.put(at(name), text, JSON_TYPE, 'absent');
    if (etag !== undefined) return etag;
    const found = await this.#bucket.get(at(name));
    return typeof found === 'object' && found.text === text ? found.etag : undefined;
  }

  async read(name: string, unless?: string): Promise<Reading> {
    const found = await this.#bucket.get(at(name), unless);
    return typeof found === 'object' ? { text: found.text, stamp: found.etag } : found;
  }

  stampOf(name: string): Promise<string | undefined> {
    return this.#bucket.head(at(name));
  }

  replace(name: string, text: string, expected?: string): Promise<string | undefined> {
    return this.#bucket.put(at(name), text, JSON_TYPE, expected === undefined ? undefined : { etag: expected });
  }

  async list(folder: string): Promise<readonly ListedFile[]> {
    const listed: { name: string; modifiedAt: number }[] = [];
    for await (const object of this.#bucket.list(at(folder))) listed.push(object);
    // By the server's clock: the newest object is the present.
    const now = listed.reduce((latest, { modifiedAt }) => Math.max(latest, modifiedAt), 0);
    return listed.map(({ name, modifiedAt }) => ({ name: name.slice(FOLDER.length + 1), ageMs: now - modifiedAt }));
  }

  async now(): Promise<number> {
    await this.#bucket.head(at('cluster.json'));
    return this.#bucket.lastHeard;
  }

  async remove(names: readonly string[]): Promise<void> {
    await Promise.all(names.map((name) => this.#bucket.delete(at(name))));
  }
}

function at(name: string): string {
  return `${FOLDER}/${name}`;
}
