import { LogStore } from '@tokenmirror/change-log';
import { Bucket } from './bucket.js';
import { shown, type S3Address } from './s3-address.js';
import { S3Documents } from './s3-documents.js';
import { explain } from './s3-errors.js';
import { S3Log } from './s3-log.js';

export interface S3StoreOptions extends S3Address {
  readonly historyLength?: number;
  /** How long an operation may take, in ms. */
  readonly timeoutMs?: number;
  /** How often the objects are listed, to see what others wrote, in ms. */
  readonly listingMs?: number;
  /** A mirror may stand in a bucket that cannot compare and set. */
  readonly isMirror?: boolean;
}

const DEFAULT_TIMEOUT_MS = 10_000;
const DEFAULT_LISTING_MS = 300_000;

/** A prefix of a bucket as a store. */
export class S3Store extends LogStore {
  readonly #bucket: Bucket;

  constructor({
    historyLength,
    timeoutMs = DEFAULT_TIMEOUT_MS,
    listingMs = DEFAULT_LISTING_MS,
    isMirror = false,
    ...address
  }: S3StoreOptions) {
    const bucket = new Bucket({ ...address, timeoutMs });
    const description = shown(address);
    super(
      {
        description,
        log: new S3Log(bucket, { shown: description, mayDecide: !isMirror }),
        plain: new S3Documents(bucket),
        objection: (key) => (Buffer.byteLength(key) > bucket.longestName ? 'its name is too long for object storage' : undefined),
        comparedEveryMs: listingMs,
        explain: (error) => explain(error, description),
      },
      historyLength,
    );
    this.#bucket = bucket;
  }

  override async close(): Promise<void> {
    await super.close();
    this.#bucket.close();
  }
}
