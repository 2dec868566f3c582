import { randomBytes } from 'node:crypto';
import { DeleteObjectCommand, GetObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import type { S3Access } from './s3-server.js';

const VARIABLE = 'TOKENMIRROR_TEST_S3_';

/** The server that tests use: one that is there already, or the one that the test run started. */
export function testS3(): S3Access | undefined {
  const value = (name: string): string | undefined => process.env[VARIABLE + name];
  const [endpoint, bucket, accessKey, secretKey] = [value('ENDPOINT'), value('BUCKET'), value('ACCESS_KEY'), value('SECRET_KEY')];
  if (endpoint === undefined) return undefined;
  if (bucket === undefined || accessKey === undefined || secretKey === undefined)
    throw new Error(`with ${VARIABLE}ENDPOINT also set ${VARIABLE}BUCKET, ${VARIABLE}ACCESS_KEY and ${VARIABLE}SECRET_KEY`);
  return { endpoint, bucket, accessKey, secretKey, region: value('REGION') ?? 'us-east-1' };
}

/** Makes a server known to the processes of this test run. */
export function announceTestS3({ endpoint, bucket, accessKey, secretKey, region }: S3Access): void {
  const values = { ENDPOINT: endpoint, BUCKET: bucket, ACCESS_KEY: accessKey, SECRET_KEY: secretKey, REGION: region };
  for (const [name, value] of Object.entries(values)) process.env[VARIABLE + name] = value;
}

/** A prefix of its own in the bucket of the tests, and what somebody who knows nothing of Tokenmirror does there, as CLIProxyAPI's object store does it. */
export class TestBucket {
  readonly access: S3Access;
  readonly prefix: string;
  readonly #client: S3Client;
  readonly #read = new Map<string, { readonly etag: string; readonly text: string }>();

  constructor(access = testS3(), prefix = `test-${randomBytes(6).toString('hex')}`) {
    if (access === undefined) throw new Error(`${VARIABLE}ENDPOINT is not set`);
    this.access = access;
    this.prefix = prefix;
    this.#client = new S3Client({
      endpoint: access.endpoint,
      region: access.region,
      forcePathStyle: true,
      credentials: { accessKeyId: access.accessKey, secretAccessKey: access.secretKey },
      requestChecksumCalculation: 'WHEN_REQUIRED',
    });
  }

  /** As the command is told of it. */
  get environment(): Record<string, string> {
    const { endpoint, bucket, accessKey, secretKey, region } = this.access;
    return {
      OBJECTSTORE_ENDPOINT: endpoint,
      OBJECTSTORE_BUCKET: bucket,
      OBJECTSTORE_ACCESS_KEY: accessKey,
      OBJECTSTORE_SECRET_KEY: secretKey,
      OBJECTSTORE_REGION: region,
      OBJECTSTORE_PREFIX: this.prefix,
    };
  }

  async put(name: string, text: string): Promise<void> {
    const ContentType = name.endsWith('.yaml') ? 'application/x-yaml' : 'application/json';
    await this.#client.send(new PutObjectCommand({ ...this.#at(name), Body: Buffer.from(text), ContentType }));
  }

  async get(name: string): Promise<string | undefined> {
    return (await this.look(name))?.text;
  }

  async look(name: string): Promise<{ readonly text: string; readonly contentType: string | undefined } | undefined> {
    try {
      const { Body, ContentType } = await this.#client.send(new GetObjectCommand(this.#at(name)));
      return { text: (await Body?.transformToString()) ?? '', contentType: ContentType };
    } catch (error) {
      if ((error as Error).name === 'NoSuchKey') return undefined;
      throw error;
    }
  }

  async remove(name: string): Promise<void> {
    await this.#client.send(new DeleteObjectCommand(this.#at(name)));
  }

  /** Everything below the prefix, or below a folder of it. */
  async names(folder = ''): Promise<string[]> {
    return (await this.#list(folder)).map(({ name }) => name);
  }

  /** The texts below some folders, each read when it has changed. */
  async contents(folders: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const listed = (await Promise.all(folders.map((folder) => this.#list(folder)))).flat();
    const found = await Promise.all(
      listed.map(async ({ name, etag }) => {
        const known = this.#read.get(name);
        const text = known?.etag === etag ? known.text : await this.get(name);
        if (text !== undefined) this.#read.set(name, { etag, text });
        return text === undefined ? [] : ([[name, text]] as const);
      }),
    );
    return new Map(found.flat());
  }

  async destroy(): Promise<void> {
    const names = await this.names();
    await Promise.all(names.map((name) => this.remove(name)));
    this.#client.destroy();
  }

  async #list(folder: string): Promise<{ readonly name: string; readonly etag: string }[]> {
    const found: { name: string; etag: string }[] = [];
    let token: string | undefined;
    do {
      const page = await this.#client.send(
        new ListObjectsV2Command({
          Bucket: this.access.bucket,
          Prefix: `${this.prefix}/${folder}`,
          ...(token === undefined ? {} : { ContinuationToken: token }),
        }),
      );
      for (const { Key = '', ETag = '' } of page.Contents ?? []) found.push({ name: Key.slice(this.prefix.length + 1), etag: ETag });
      token = page.NextContinuationToken;
    } while (token !== undefined);
    return found;
  }

  #at(name: string): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.access.bucket, Key: `${this.prefix}/${name}` };
  }
}
