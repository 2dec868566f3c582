import { readFileSync } from 'node:fs';
import type { ClientConfig } from 'pg';
import { messageOf, TokenmirrorError } from '@tokenmirror/core';

/** How a connection is encrypted, as libpq and pgx understand `sslmode`. */
export type SslMode = 'disable' | 'prefer' | 'require' | 'verify-ca' | 'verify-full';

export interface ConnectionPlan {
  readonly client: ClientConfig;
  readonly sslMode: SslMode;
  readonly poolSize: number | undefined;
  /** Host, port and database as they may be shown. */
  readonly place: string;
}

const SSL_MODES: Readonly<Record<string, SslMode>> = {
  disable: 'disable',
  allow: 'prefer',
  prefer: 'prefer',
  require: 'require',
  'verify-ca': 'verify-ca',
  'verify-full': 'verify-full',
};

/** Parameters that tune other drivers' pools or protocols and mean nothing here. */
const IRRELEVANT = new Set([
  'pool_min_conns',
  'pool_min_idle_conns',
  'pool_max_conn_lifetime',
  'pool_max_conn_lifetime_jitter',
  'pool_max_conn_idle_time',
  'pool_health_check_period',
  'default_query_exec_mode',
  'statement_cache_capacity',
  'description_cache_capacity',
  'target_session_attrs',
  'channel_binding',
  'gssencmode',
  'sslsni',
  'client_encoding',
  'timezone',
]);

const KNOWN = [
  'host',
  'hostaddr',
  'port',
  'user',
  'password',
  'dbname',
  'sslmode',
  'sslrootcert',
  'sslcert',
  'sslkey',
  'application_name',
  'connect_timeout',
  'pool_max_conns',
  'search_path',
  'options',
  'fallback_application_name',
  'uselibpqcompat',
];

/**
 * Understands a DSN as CLIProxyAPI's driver does: a `postgres://` URL or `key=value` words.
 * @throws TokenmirrorError STORE_INVALID, without any part of the DSN that could be secret
 */
export function readDsn(dsn: string): ConnectionPlan {
  const words = /^postgres(ql)?:\/\//i.test(dsn) ? fromUrl(dsn) : fromWords(dsn);
  for (const name of words.keys()) {
    if (!KNOWN.includes(name) && !IRRELEVANT.has(name)) {
      throw invalid(
        `the Postgres DSN has a parameter ${/^[a-z_]{1,40}$/i.test(name) ? `"${name}" ` : ''}that is not understood`,
        `Remove it. Understood are: ${KNOWN.join(', ')}.`,
      );
    }
  }
  const sslMode = SSL_MODES[words.get('sslmode') ?? 'prefer'];
  if (sslMode === undefined) throw invalid('the Postgres DSN has an unknown sslmode', `Use one of ${Object.keys(SSL_MODES).join(', ')}.`);
  const number = (name: string): number | undefined => {
    const text = words.get(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < 0)
      throw invalid(`the parameter ${name} of the Postgres DSN is not a whole number`, 'Correct it.');
    return value;
  };
  const host = words.get('hostaddr') ?? words.get('host') ?? 'localhost';
  const port = number('port') ?? 5432;
  const database = words.get('dbname') ?? words.get('user');
  const connectTimeout = number('connect_timeout');
  const [user, password] = [words.get('user'), words.get('password')];
  return {
    sslMode,
    poolSize: number('pool_max_conns'),
    place: `${host.startsWith('/') ? '' : host}:${String(port)}/${database ?? ''}`,
    client: {
      host,
      port,
      ...(user === undefined ? {} : { user }),
      ...(password === undefined ? {} : { password }),
      ...(database === undefined ? {} : { database }),
      application_name: words.get('application_name') ?? 'tokenmirror',
      connectionTimeoutMillis: (connectTimeout ?? 0) > 0 ? (connectTimeout ?? 0) * 1000 : 5000,
      ssl: sslOptions(sslMode, words, host),
      ...(words.has('options') ? { options: words.get('options') } : {}),
    },
  };
}

function sslOptions(mode: SslMode, words: ReadonlyMap<string, string>, host: string): ClientConfig['ssl'] {
  if (mode === 'disable' || host.startsWith('/')) return false;
  const file = (name: string): string | undefined => {
    const path = words.get(name);
    if (path === undefined || path === 'system') return undefined;
    try {
      return readFileSync(path, 'utf8');
    } catch (cause) {
      throw new TokenmirrorError(
        'STORE_INVALID',
        `the ${name} of the Postgres DSN cannot be read (${messageOf(cause)})`,
        'Check the path and its rights.',
        { cause },
      );
    }
  };
  const [ca, cert, key] = [file('sslrootcert'), file('sslcert'), file('sslkey')];
  const verifies = mode === 'verify-full' || mode === 'verify-ca' || (mode === 'require' && ca !== undefined);
  return {
    rejectUnauthorized: verifies,
    ...(mode === 'verify-full' ? {} : { checkServerIdentity: () => undefined }),
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
  };
}

function fromUrl(dsn: string): Map<string, string> {
  let url: URL;
  try {
    url = new URL(dsn);
  } catch {
    throw invalid(
      'the Postgres DSN is not a valid URL',
      'Write postgres://user:password@host:5432/database, with special characters of the password percent-encoded.',
    );
  }
  const words = new Map(url.searchParams);
  const set = (name: string, value: string): void => {
    if (value !== '' && !words.has(name)) words.set(name, decoded(value));
  };
  set('host', url.hostname.replace(/^\[|\]$/g, ''));
  set('port', url.port);
  set('user', url.username);
  set('password', url.password);
  set('dbname', url.pathname.slice(1));
  return words;
}

function fromWords(dsn: string): Map<string, string> {
  const words = new Map<string, string>();
  const word = /\s*([a-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?:\s+|$)/giy;
  let at = 0;
  while (at < dsn.length) {
    word.lastIndex = at;
    const match = word.exec(dsn);
    if (match === null)
      throw invalid(
        'the Postgres DSN is neither a URL nor a list of key=value words',
        'Write postgres://user:password@host:5432/database.',
      );
    words.set((match[1] ?? '').toLowerCase(), (match[2] ?? match[3] ?? '').replace(/\\(.)/g, '$1'));
    at = word.lastIndex;
  }
  if (words.size === 0) throw invalid('the Postgres DSN is empty', 'Write postgres://user:password@host:5432/database.');
  return words;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid('the Postgres DSN has a broken percent-encoding', 'Encode a percent sign itself as %25.');
  }
}

function invalid(message: string, remedy: string): TokenmirrorError {
  return new TokenmirrorError('STORE_INVALID', message, remedy);
}
