import { isJsonObject, type Json, type JsonObject } from './strict-json.js';

/** The fields that a provider issues, in the spellings that CLIProxyAPI and its forks write. Every other field is a setting. */
const GRANT_FIELDS: ReadonlySet<string> = new Set(
  [
    'access_token',
    'refresh_token',
    'id_token',
    'token',
    'token_type',
    'session_id',
    'expired',
    'expires_at',
    'expires_in',
    'last_refresh',
    'timestamp',
  ].flatMap((name) => [name, name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())]),
);

/** Fields that say whose credential it is and how it is used, but cannot authenticate anyone. */
const DESCRIPTIVE_FIELDS: ReadonlySet<string> = new Set([
  'type',
  'name',
  'email',
  'disabled',
  'proxy_url',
  'prefix',
  'priority',
  'weight',
  'note',
  'headers',
  'request_retry',
  'label',
  'websockets',
]);

/** Fields that say whose login it is. */
const ACCOUNT_FIELDS = ['type', 'email', 'account_id', 'account_uuid', 'organization_uuid', 'organization_name', 'project_id'] as const;

/** True where two credentials say that they belong to different people or providers. */
export function isOtherAccount(one: JsonObject, other: JsonObject): boolean {
  const [mine, theirs] = [one['email'], other['email']];
  return one['type'] !== other['type'] || (typeof mine === 'string' && typeof theirs === 'string' && mine !== theirs);
}

/** The settings of a credential under the account of another: whose login it is goes with the grant. */
export function withAccountOf(settings: JsonObject, account: JsonObject): JsonObject {
  const isOf = (name: string): boolean => (ACCOUNT_FIELDS as readonly string[]).includes(name);
  return {
    ...Object.fromEntries(Object.entries(settings).filter(([name]) => !isOf(name))),
    ...Object.fromEntries(Object.entries(account).filter(([name]) => isOf(name))),
  };
}

export function isGrantField(name: string): boolean {
  return GRANT_FIELDS.has(name);
}

/** The grant of a credential: the fields that the provider issued, which only make sense together. */
export function grantOf(fields: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => isGrantField(name)));
}

/** The settings of one credential with the grant of another. */
export function withGrantOf(settings: JsonObject, grant: JsonObject): JsonObject {
  return { ...Object.fromEntries(Object.entries(settings).filter(([name]) => !isGrantField(name))), ...grantOf(grant) };
}

export function accessTokenOf(fields: JsonObject): string | undefined {
  return tokenOf(fields, 'access_token', 'accessToken') ?? nonBlank(fields['token']);
}

export function refreshTokenOf(fields: JsonObject): string | undefined {
  return tokenOf(fields, 'refresh_token', 'refreshToken');
}

/** The credential without its refresh token, wherever that stands. */
export function withoutRefreshToken(fields: JsonObject): JsonObject {
  const strip = (object: JsonObject): JsonObject =>
    Object.fromEntries(Object.entries(object).filter(([name]) => name !== 'refresh_token' && name !== 'refreshToken'));
  const nested = fields['token'];
  return isJsonObject(nested) ? { ...strip(fields), token: strip(nested) } : strip(fields);
}

/** False for a credential that holds nothing that could authenticate: `{}`, `{"disabled":true}`, blanked tokens. */
export function hasSubstance(fields: JsonObject): boolean {
  if (accessTokenOf(fields) !== undefined || refreshTokenOf(fields) !== undefined) return true;
  return Object.entries(fields).some(([name, value]) => !isGrantField(name) && !DESCRIPTIVE_FIELDS.has(name) && isFilled(value));
}

/**
 * When the grant was issued, as an instant in ms since the epoch: `iat` of a JWT, else the expiry, else the last refresh.
 * Only values of the same rank may be compared.
 */
export interface Issued {
  readonly rank: 'iat' | 'expired' | 'last_refresh';
  readonly at: number;
}

export function issuedOf(fields: JsonObject): readonly Issued[] {
  const nested = isJsonObject(fields['token']) ? fields['token'] : {};
  const find = (...names: string[]): Json | undefined =>
    names.map((name) => fields[name] ?? nested[name]).find((value) => value !== undefined);
  const issued: Issued[] = [];
  const iat = jwtIssuedAt(find('id_token', 'idToken')) ?? jwtIssuedAt(find('access_token', 'accessToken'));
  if (iat !== undefined) issued.push({ rank: 'iat', at: iat });
  const expired = instantOf(find('expired', 'expires_at', 'expiresAt', 'expiry'));
  if (expired !== undefined) issued.push({ rank: 'expired', at: expired });
  const refreshed = instantOf(find('last_refresh', 'lastRefresh', 'timestamp'));
  if (refreshed !== undefined) issued.push({ rank: 'last_refresh', at: refreshed });
  return issued;
}

/** The instant at which the access token ends, in ms since the epoch, where the file says so. */
export function expiryOf(fields: JsonObject): number | undefined {
  return issuedOf(fields).find(({ rank }) => rank === 'expired')?.at;
}

function tokenOf(fields: JsonObject, ...names: string[]): string | undefined {
  const nested = fields['token'];
  const places = isJsonObject(nested) ? [fields, nested] : [fields];
  for (const place of places) {
    for (const name of names) {
      const token = nonBlank(place[name]);
      if (token !== undefined) return token;
    }
  }
  return undefined;
}

function nonBlank(value: Json | undefined): string | undefined {
  return typeof value === 'string' && value.trim() !== '' ? value : undefined;
}

function isFilled(value: Json): boolean {
  if (typeof value === 'string') return value.trim() !== '';
  if (Array.isArray(value)) return value.length > 0;
  return isJsonObject(value) && Object.keys(value).length > 0;
}

/** RFC 3339 in any zone, or a number of seconds or milliseconds since the epoch. Instants are compared, never strings. */
function instantOf(value: Json | undefined): number | undefined {
  if (typeof value === 'number') return value > 1e11 ? value : value * 1000;
  if (typeof value !== 'string') return undefined;
  const instant = Date.parse(value);
  return Number.isNaN(instant) ? undefined : instant;
}

function jwtIssuedAt(token: Json | undefined): number | undefined {
  if (typeof token !== 'string') return undefined;
  const payload = token.split('.')[1];
  if (payload === undefined) return undefined;
  try {
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as { iat?: unknown };
    return typeof claims.iat === 'number' ? claims.iat * 1000 : undefined;
  } catch {
    return undefined;
  }
}
