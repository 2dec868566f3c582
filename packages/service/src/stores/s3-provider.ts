import { TokenmirrorError, type TokenStore } from '@tokenmirror/core';
import type { S3Address } from '@tokenmirror/store-s3';
import type { Settings } from '../options/settings.js';
import type { StoreProvider, StoreRole } from './store-provider.js';

export class S3Provider implements StoreProvider {
  readonly name = 's3';
  readonly priority = 30;
  readonly schemes = ['s3:'];

  isConfigured(settings: Settings): boolean {
    return settings['s3-bucket'] !== undefined;
  }

  async create(settings: Settings, role: StoreRole, url?: string): Promise<TokenStore> {
    const configured = configuredAddress(settings);
    if (url === undefined) return open(named(configured), settings, role);
    const { readS3Url } = await import('@tokenmirror/store-s3');
    return open(besides(readS3Url(url), configured), settings, role);
  }
}

/** The backup in object storage, where one is set up: like the S3 store, but for what is said of it. */
export async function s3Backup(settings: Settings): Promise<TokenStore | undefined> {
  const [prefix, bucket, endpoint] = [settings['s3-backup-prefix'], settings['s3-backup-bucket'], settings['s3-backup-endpoint']];
  const [accessKey, secretKey] = [settings['s3-backup-access-key'], settings['s3-backup-secret-key']];
  if ((accessKey === undefined) !== (secretKey === undefined))
    throw invalidBackup('only one of its two keys is set', 'Set both OBJECTSTORE_BACKUP_ACCESS_KEY and OBJECTSTORE_BACKUP_SECRET_KEY.');
  if (prefix === undefined && bucket === undefined && endpoint === undefined) {
    if (accessKey === undefined && settings['s3-backup-region'] === undefined) return undefined;
    throw invalidBackup(
      'it is not said where it is',
      'Set OBJECTSTORE_BACKUP_PREFIX, OBJECTSTORE_BACKUP_BUCKET or OBJECTSTORE_BACKUP_ENDPOINT.',
    );
  }
  const primary = configuredAddress(settings);
  if (bucket === undefined && primary.bucket === undefined) throw invalidBackup('it has no bucket', 'Set OBJECTSTORE_BACKUP_BUCKET.');
  const isElsewhere = endpoint !== undefined && endpoint !== primary.endpoint;
  const address = {
    ...primary,
    bucket: bucket ?? primary.bucket,
    prefix,
    endpoint: endpoint ?? primary.endpoint,
    region: settings['s3-backup-region'] ?? (isElsewhere ? undefined : primary.region),
    accessKey: accessKey ?? primary.accessKey,
    secretKey: secretKey ?? primary.secretKey,
  };
  return open(named(address), settings, 'mirror');
}

function invalidBackup(what: string, remedy: string): TokenmirrorError {
  return new TokenmirrorError('STORE_INVALID', `the backup in object storage cannot be used: ${what}`, remedy);
}

async function open(address: S3Address, settings: Settings, role: StoreRole): Promise<TokenStore> {
  // The SDK's note on its next major version is for developers, not for who runs this.
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
  const { S3Store } = await import('@tokenmirror/store-s3');
  return new S3Store({
    ...address,
    historyLength: settings['history-length'],
    timeoutMs: settings['store-timeout'],
    listingMs: settings['s3-listing-interval'],
    isMirror: role === 'mirror',
  });
}

type Configured = Omit<S3Address, 'bucket'> & { readonly bucket: string | undefined };

function configuredAddress(settings: Settings): Configured {
  const addressing = settings['s3-addressing'];
  const [accessKey, secretKey] = [settings['s3-access-key'], settings['s3-secret-key']];
  if ((accessKey === undefined) !== (secretKey === undefined)) {
    throw new TokenmirrorError(
      'STORE_INVALID',
      'only one of the two keys of the object storage is set',
      'Set both OBJECTSTORE_ACCESS_KEY and OBJECTSTORE_SECRET_KEY, or neither, for the credentials that the AWS SDK finds.',
    );
  }
  return {
    bucket: settings['s3-bucket'],
    endpoint: settings['s3-endpoint'],
    region: settings['s3-region'],
    prefix: settings['s3-prefix'],
    pathStyle: addressing === 'auto' ? undefined : addressing === 'path',
    accessKey,
    secretKey,
  };
}

function named({ bucket, ...address }: Configured): S3Address {
  if (bucket !== undefined) return { bucket, ...address };
  throw new TokenmirrorError('STORE_INVALID', 'S3 is named as the store, but no bucket', 'Set OBJECTSTORE_BUCKET.');
}

/** A URL names bucket and prefix; the keys, and where it names no endpoint that too, are the configured ones. */
function besides(url: S3Address, configured: Configured): S3Address {
  const { accessKey, secretKey } = configured;
  if (url.endpoint !== undefined) return { accessKey, secretKey, ...url };
  return { ...configured, ...url, region: url.region ?? configured.region, endpoint: configured.endpoint };
}
