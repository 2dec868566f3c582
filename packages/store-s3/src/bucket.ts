import { setTimeout as delay } from 'node:timers/promises';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import PQueue from 'p-queue';
import { endpointOf, prefixOf, traitsOf, type S3Address } from './s3-address.js';
import { refusalIn, type Refusal } from './s3-errors.js';

/** What a bucket does with `If-Match` and `If-None-Match` on writes, as it was tried. */
export interface Conditions {
  readonly create: 'honoured' | 'ignored';
  /** `unquoted`: honoured with the ETag written without its quotes only. */
  readonly replace: 'honoured' | 'unquoted' | 'ignored';
}

export const ALL_HONOURED: Conditions = { create: 'honoured', replace: 'honoured' };

export interface StoredObject {
  readonly text: string;
  /** Without quotes. */
  readonly etag: string;
}

export interface ListedObject {
  /** Below the prefix. */
  readonly name: string;
  readonly etag: string;
  /** ms since the epoch, by the server's clock. */
  readonly modifiedAt: number;
}

/** What must be so for a write to happen: nothing stands there, or what has this ETag. */
export type Condition = 'absent' | { readonly etag: string };

export interface BucketOptions extends S3Address {
  /** For one operation with all its repetitions, in ms. */
  readonly timeoutMs: number;
}

/** Enough to hide the latency of a distant bucket, few enough for the limits that providers set. */
const REQUESTS_AT_ONCE = 32;
/** Of one request within an operation, so that a connection that went silent is given up for a new one. */
const ATTEMPTS = 4;
/** AWS answers 409 to one of two conditional writes that overlap; it is to be sent again. */
const CONFLICT_TRIES = 6;
const CONFLICT_PAUSE_MS = 20;

/** The objects below one prefix of one bucket. What is thrown is the SDK's, to be explained by `explain`. */
export class Bucket {
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #timeoutMs: number;
  readonly #queue = new PQueue({ concurrency: REQUESTS_AT_ONCE });
  conditions = ALL_HONOURED;
  /** What the server's clock said in its last answer; ms since the epoch. */
  #lastHeard = Date.now();

  constructor(options: BucketOptions) {
    const endpoint = endpointOf(options);
    const traits = traitsOf(endpoint);
    const { accessKey, secretKey, timeoutMs } = options;
    this.#bucket = options.bucket;
    this.#prefix = prefixOf(options);
    this.#timeoutMs = timeoutMs;
    this.#client = new S3Client({
      region: options.region ?? traits.region,
      forcePathStyle: options.pathStyle ?? traits.pathStyle,
      ...(endpoint === undefined ? {} : { endpoint: endpoint.href.replace(/\/$/, '') }),
      ...(accessKey === undefined || secretKey === undefined
        ? {}
        : { credentials: { accessKeyId: accessKey, secretAccessKey: secretKey } }),
      // Providers besides AWS know no CRC trailers.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      maxAttempts: ATTEMPTS,
      requestHandler: {
        connectionTimeout: Math.ceil(timeoutMs / 3),
        requestTimeout: Math.ceil(timeoutMs / 2),
        socketTimeout: Math.ceil(timeoutMs / 2),
        throwOnRequestTimeout: true,
      },
    });
    this.#client.middlewareStack.add(
      (next) => async (request) => {
        const result = await next(request);
        const date = dateIn(result.response);
        if (date !== undefined) this.#lastHeard = date;
        return result;
      },
      { step: 'deserialize', name: 'tokenmirrorDate' },
    );
  }

  get lastHeard(): number {
    return this.#lastHeard;
  }

  /** Bytes that a name may have here. */
  get longestName(): number {
    return 1024 - Buffer.byteLength(this.#prefix);
  }

  /** `unchanged` when it has the ETag `unless`. */
  async get(name: string, unless?: string): Promise<StoredObject | 'unchanged' | undefined> {
    const condition = unless === undefined ? {} : { IfNoneMatch: `"${unless}"` };
    const command = new GetObjectCommand({ ...this.#at(name), ...condition });
    for (let attempt = 1; ; attempt += 1) {
      const found = await this.#unless(['missing', 'unchanged'], async (options) => {
        const { Body, ETag } = await this.#client.send(command, options);
        const text = await Body?.transformToString('utf-8').catch((error: unknown) => error as Error);
        return { text: text ?? '', etag: bare(ETag) };
      });
      if (found === 'missing') return undefined;
      if (found === 'unchanged') return found;
      const { text, etag } = found;
      if (typeof text === 'string') return { text, etag };
      if (attempt === ATTEMPTS) throw text;
    }
  }

  /** The ETag of an object. */
  async head(name: string): Promise<string | undefined> {
    const found = await this.#unless(['missing'], (options) => this.#client.send(new HeadObjectCommand(this.#at(name)), options));
    return found === 'missing' ? undefined : bare(found.ETag);
  }

  /** Writes an object and returns its ETag; `undefined` when the condition did not hold, or when the answer to a write that had happened was lost. */
  async put(name: string, text: string, contentType: string, condition?: Condition): Promise<string | undefined> {
    if (condition !== undefined && this.#isIgnored(condition)) return this.#putAfterLooking(name, text, contentType, condition);
    const command = new PutObjectCommand({
      ...this.#at(name),
      Body: Buffer.from(text),
      ContentType: contentType,
      ...(condition === undefined ? {} : this.#written(condition)),
    });
    const refusals = condition === undefined ? [] : (['precondition', 'conflict', 'missing'] as const);
    for (let attempt = 1; ; attempt += 1) {
      const answer = await this.#unless(refusals, (options) => this.#client.send(command, options));
      if (typeof answer !== 'string') return bare(answer.ETag);
      if (answer !== 'conflict' || attempt === CONFLICT_TRIES) return undefined;
      await delay(CONFLICT_PAUSE_MS * 2 ** attempt * Math.random());
    }
  }

  async delete(name: string): Promise<void> {
    await this.#unless(['missing'], (options) => this.#client.send(new DeleteObjectCommand(this.#at(name)), options));
  }

  async *list(folder: string): AsyncGenerator<ListedObject> {
    let continuation: string | undefined;
    do {
      const command = new ListObjectsV2Command({
        Bucket: this.#bucket,
        Prefix: `${this.#prefix}${folder}/`,
        // A key with control characters cannot be written in XML.
        EncodingType: 'url',
        ...(continuation === undefined ? {} : { ContinuationToken: continuation }),
      });
      const page = await this.#unless([], (options) => this.#client.send(command, options));
      for (const { Key = '', ETag, LastModified } of page.Contents ?? []) {
        const key = page.EncodingType === 'url' ? decodeURIComponent(Key.replaceAll('+', ' ')) : Key;
        yield { name: key.slice(this.#prefix.length), etag: bare(ETag), modifiedAt: LastModified?.getTime() ?? Date.now() };
      }
      continuation = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (continuation !== undefined);
  }

  close(): void {
    this.#client.destroy();
  }

  #at(name: string): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.#bucket, Key: this.#prefix + name };
  }

  #isIgnored(condition: Condition): boolean {
    return (condition === 'absent' ? this.conditions.create : this.conditions.replace) === 'ignored';
  }

  #written(condition: Condition): { readonly IfNoneMatch: '*' } | { readonly IfMatch: string } {
    if (condition === 'absent') return { IfNoneMatch: '*' };
    return { IfMatch: this.conditions.replace === 'unquoted' ? condition.etag : `"${condition.etag}"` };
  }

  /** As near as it gets where conditions are ignored: a race that was lost is seen by reading back, mostly. */
  async #putAfterLooking(name: string, text: string, contentType: string, condition: Condition): Promise<string | undefined> {
    const before = await this.head(name);
    if (before !== (condition === 'absent' ? undefined : condition.etag)) return undefined;
    await this.put(name, text, contentType);
    const found = await this.get(name);
    return typeof found === 'object' && found.text === text ? found.etag : undefined;
  }

  /** One operation within its time. Refusals that the caller expects are returned, everything else is thrown. */
  #unless<T, Expected extends Refusal>(
    expected: readonly Expected[],
    send: (options: { readonly abortSignal: AbortSignal }) => Promise<T>,
  ): Promise<T | Expected> {
    return this.#queue.add(async () => {
      try {
        return await send({ abortSignal: AbortSignal.timeout(this.#timeoutMs) });
      } catch (error) {
        const refusal = expected.find((each) => each === refusalIn(error));
        if (refusal === undefined) throw error;
        return refusal;
      }
    });
  }
}

function dateIn(response: unknown): number | undefined {
  const { headers } = response as { readonly headers?: Readonly<Record<string, string>> };
  const date = Date.parse(headers?.['date'] ?? '');
  return Number.isNaN(date) ? undefined : date;
}

function bare(etag: string | undefined): string {
  return (etag ?? '').replace(/^W\//, '').replace(/^"|"$/g, '');
}
