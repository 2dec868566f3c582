import { parse, parseDocument, stringify } from 'yaml';

/** What the program takes from its `config.yaml`. */
export interface ProxyConfig {
  readonly host: string;
  readonly port: number;
  readonly authDir: string;
  readonly apiKeys: readonly string[];
  readonly hasKeyList: boolean;
  readonly proxyUrl: string | undefined;
  readonly secretKey: string;
  readonly allowRemote: boolean;
  readonly usageStatistics: boolean;
  readonly usageRetentionSeconds: number;
}

/** `undefined` for a text that the program ignores: empty, or not a YAML mapping. */
export function readProxyConfig(text: string): ProxyConfig | undefined {
  let values: unknown;
  try {
    values = parse(text);
  } catch {
    return undefined;
  }
  if (typeof values !== 'object' || values === null || Array.isArray(values)) return undefined;
  const config = values as Record<string, unknown>;
  const management = (config['remote-management'] ?? {}) as Record<string, unknown>;
  const keys = config['api-keys'];
  const retention = config['redis-usage-queue-retention-seconds'];
  return {
    host: textOf(config['host']),
    port: typeof config['port'] === 'number' ? config['port'] : 8317,
    authDir: textOf(config['auth-dir']),
    apiKeys: Array.isArray(keys) ? keys.filter((key): key is string => typeof key === 'string' && key !== '') : [],
    hasKeyList: Array.isArray(keys),
    proxyUrl: textOf(config['proxy-url']) === '' ? undefined : textOf(config['proxy-url']),
    secretKey: textOf(management['secret-key']),
    allowRemote: management['allow-remote'] === true,
    usageRetentionSeconds: typeof retention === 'number' ? retention : 60,
    usageStatistics: config['usage-statistics-enabled'] === true,
  };
}

/** The text with one value changed and everything else, comments included, as it was. */
export function withValue(text: string, path: readonly string[], value: unknown, keepsComments = true): string {
  const document = parseDocument(text);
  document.setIn(path, value);
  return keepsComments ? document.toString() : stringify(document.toJS());
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
