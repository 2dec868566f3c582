import { TokenmirrorError } from '@tokenmirror/core';

/** What names a place in object storage. */
export interface S3Address {
  readonly bucket: string;
  /** With or without scheme; AWS where it is absent. */
  readonly endpoint?: string | undefined;
  readonly region?: string | undefined;
  /** Below it everything is kept. Empty, or without slashes around it. */
  readonly prefix?: string | undefined;
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`; what the provider is known to need where absent. */
  readonly pathStyle?: boolean | undefined;
  readonly accessKey?: string | undefined;
  readonly secretKey?: string | undefined;
}

export interface ProviderTraits {
  readonly region: string;
  readonly pathStyle: boolean;
}

/**
 * What providers need to be reached, by the host of their endpoint; first match wins. What they do with conditions is not looked up but tried
 * (`probe.ts`).
 */
const PROVIDERS: readonly { readonly host: RegExp; readonly traits: (found: RegExpExecArray) => ProviderTraits }[] = [
  { host: /(?:^|\.)s3[.-]([a-z0-9-]+)\.amazonaws\.com/, traits: ([, region = 'us-east-1']) => ({ region, pathStyle: false }) },
  { host: /(?:^|\.)s3\.amazonaws\.com$/, traits: () => ({ region: 'us-east-1', pathStyle: false }) },
  { host: /\.r2\.cloudflarestorage\.com$/, traits: () => ({ region: 'auto', pathStyle: true }) },
  { host: /(?:^|\.)s3\.([a-z0-9-]+)\.backblazeb2\.com$/, traits: ([, region = '']) => ({ region, pathStyle: true }) },
  { host: /(?:^|\.)s3\.([a-z0-9-]+)\.wasabisys\.com$/, traits: ([, region = '']) => ({ region, pathStyle: true }) },
  { host: /(?:^|\.)([a-z0-9-]+)\.digitaloceanspaces\.com$/, traits: ([, region = '']) => ({ region, pathStyle: true }) },
  { host: /(?:^|[.-])garage(?:[.-]|$)/, traits: () => ({ region: 'garage', pathStyle: true }) },
];
/** MinIO, Ceph, versitygw and most others. */
const OTHERS: ProviderTraits = { region: 'us-east-1', pathStyle: true };
const AWS: ProviderTraits = { region: 'us-east-1', pathStyle: false };

export function traitsOf(endpoint: URL | undefined): ProviderTraits {
  if (endpoint === undefined) return AWS;
  for (const { host, traits } of PROVIDERS) {
    const found = host.exec(endpoint.hostname);
    if (found !== null) return traits(found);
  }
  return OTHERS;
}

/** @throws TokenmirrorError STORE_INVALID */
export function endpointOf({ endpoint }: S3Address): URL | undefined {
  if (endpoint === undefined) return undefined;
  const url = URL.canParse(endpoint) && /^https?:\/\//i.test(endpoint) ? endpoint : `https://${endpoint}`;
  if (!URL.canParse(url) || /^[a-z]+:\/\/[^/]*@/i.test(url)) {
    throw new TokenmirrorError(
      'STORE_INVALID',
      'the endpoint of the object storage is not an address',
      'Write it like https://account.r2.cloudflarestorage.com, without a user or a password.',
    );
  }
  return new URL(url);
}

/** Empty, or with a slash at its end. */
export function prefixOf({ prefix = '' }: S3Address): string {
  const trimmed = prefix.replace(/^\/+|\/+$/g, '');
  return trimmed === '' ? '' : `${trimmed}/`;
}

/** The place as it may be shown. */
export function shown(address: S3Address): string {
  const endpoint = endpointOf(address);
  return `s3://${address.bucket}/${prefixOf(address)}${endpoint === undefined ? '' : ` (${endpoint.host})`}`;
}

/**
 * Reads `s3://bucket/prefix?endpoint=…&region=…`. Keys are not part of it: a URL is shown and logged.
 * @throws TokenmirrorError STORE_INVALID
 */
export function readS3Url(text: string): S3Address {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const unknown = [...(url?.searchParams.keys() ?? [])].filter((name) => !['endpoint', 'region', 'path-style'].includes(name));
  if (url?.protocol !== 's3:' || url.hostname === '' || url.username !== '' || url.password !== '' || unknown.length > 0) {
    throw new TokenmirrorError(
      'STORE_INVALID',
      'the URL of the bucket is not understood',
      'Write s3://bucket/prefix?endpoint=https://host&region=name, and give the keys as OBJECTSTORE_ACCESS_KEY and OBJECTSTORE_SECRET_KEY.',
    );
  }
  const pathStyle = url.searchParams.get('path-style');
  return {
    bucket: url.hostname,
    prefix: decodeURIComponent(url.pathname),
    endpoint: url.searchParams.get('endpoint') ?? undefined,
    region: url.searchParams.get('region') ?? undefined,
    ...(pathStyle === null ? {} : { pathStyle: pathStyle !== 'false' }),
  };
}
