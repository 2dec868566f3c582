import { TokenmirrorError, type ErrorCode } from '@tokenmirror/core';

interface ServiceError {
  readonly name: string;
  readonly code?: unknown;
  readonly $metadata?: { readonly httpStatusCode?: number };
}

const REFUSALS = { 304: 'unchanged', 404: 'missing', 409: 'conflict', 412: 'precondition', 501: 'unsupported' } as const;

/** Outcomes that a request may have and that are no failures. */
export type Refusal = (typeof REFUSALS)[keyof typeof REFUSALS];

/** Tells 412, 409, 404, 304 and 501 apart; `undefined` for everything else, a missing bucket included. */
export function refusalIn(error: unknown): Refusal | undefined {
  if ((error as ServiceError).name === 'NoSuchBucket') return undefined;
  return (REFUSALS as Readonly<Partial<Record<number, Refusal>>>)[statusOf(error) ?? 0];
}

function statusOf(error: unknown): number | undefined {
  return (error as ServiceError).$metadata?.httpStatusCode;
}

interface Explanation {
  readonly kind: ErrorCode;
  readonly what: string;
  readonly remedy: string;
}

const RIGHTS: Explanation = {
  kind: 'STORE_DENIED',
  what: 'a right is missing',
  remedy: 'Grant the rights of the policy in docs/s3.md, ListBucket included.',
};
const KEYS: Explanation = {
  kind: 'STORE_DENIED',
  what: 'the access key or the secret key was refused',
  remedy: 'Check OBJECTSTORE_ACCESS_KEY and OBJECTSTORE_SECRET_KEY.',
};
const EXPIRED: Explanation = {
  kind: 'STORE_DENIED',
  what: 'the credentials have expired',
  remedy: 'Renew them; Tokenmirror goes on by itself.',
};
const CLOCK: Explanation = {
  kind: 'STORE_DENIED',
  what: 'the clock of this machine differs from the time of the server',
  remedy: 'Set the clock, or let it be set (NTP).',
};
const FULL: Explanation = { kind: 'STORE_FULL', what: 'it has no room left', remedy: 'Free some space; it is tried again by itself.' };
const REGION: Explanation = {
  kind: 'STORE_DENIED',
  what: 'the bucket is in another region',
  remedy: 'Set OBJECTSTORE_REGION to the region of the bucket.',
};
const NO_BUCKET: Explanation = {
  kind: 'STORE_DENIED',
  what: 'the bucket does not exist',
  remedy: 'Make it, or correct OBJECTSTORE_BUCKET.',
};
const SLOW: Explanation = {
  kind: 'STORE_UNREACHABLE',
  what: 'it asks to slow down',
  remedy: 'Nothing; Tokenmirror goes on by itself, more slowly.',
};
const NO_CREDENTIALS: Explanation = {
  kind: 'STORE_DENIED',
  what: 'there are no credentials for it',
  remedy: 'Set OBJECTSTORE_ACCESS_KEY and OBJECTSTORE_SECRET_KEY, or give the machine a role or a profile of AWS.',
};

const BY_NAME: Readonly<Record<string, Explanation>> = {
  NoSuchBucket: NO_BUCKET,
  InvalidBucketName: NO_BUCKET,
  InvalidAccessKeyId: KEYS,
  SignatureDoesNotMatch: KEYS,
  InvalidSecurity: KEYS,
  Unauthorized: KEYS,
  AuthorizationHeaderMalformed: REGION,
  PermanentRedirect: REGION,
  ExpiredToken: EXPIRED,
  ExpiredTokenException: EXPIRED,
  TokenRefreshRequired: EXPIRED,
  InvalidToken: EXPIRED,
  RequestTimeTooSkewed: CLOCK,
  RequestExpired: CLOCK,
  SlowDown: SLOW,
  TooManyRequests: SLOW,
  QuotaExceeded: FULL,
  XMinioStorageFull: FULL,
  CredentialsProviderError: NO_CREDENTIALS,
};

/** Turns what the SDK throws into an error with a remedy. What the server wrote is not repeated, but for the name of the error. */
export function explain(error: unknown, place: string): unknown {
  if (error instanceof TokenmirrorError) return error;
  const status = statusOf(error);
  if (!isOfTheService(error)) return error;
  const { name } = error as ServiceError;
  const { kind, what, remedy } = BY_NAME[name] ?? byStatus(status, name, error);
  return new TokenmirrorError(kind, `object storage ${place}: ${what}`, remedy, { cause: error });
}

function byStatus(status: number | undefined, name: string, error: unknown): Explanation {
  if (status === 401) return KEYS;
  if (status === 403) return RIGHTS;
  if (status === 301 || status === 307) return REGION;
  if (status === 429 || status === 503) return SLOW;
  if (status === 507) return FULL;
  const { code } = error as ServiceError;
  const reason = status === undefined ? (typeof code === 'string' ? code : name) : `${String(status)} ${name}`;
  return {
    kind: 'STORE_UNREACHABLE',
    what: `it does not answer as it should (${reason})`,
    remedy: 'Check the endpoint and the network; Tokenmirror goes on by itself.',
  };
}

/** True for what the SDK reports: answers, and failures without one (of the connection, of the credential chain, of a body that broke off). */
function isOfTheService(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { name, code, $metadata } = error as unknown as ServiceError;
  return $metadata !== undefined || typeof code === 'string' || ['TimeoutError', 'AbortError', 'CredentialsProviderError'].includes(name);
}
