import { existsSync, readFileSync, statSync } from 'node:fs';
import { readConfigDocument, type Liveness } from '@tokenmirror/core';
import { liveness, type ManagementTarget } from '@tokenmirror/cliproxy-client';

/** What the config says about how CLIProxyAPI can be reached, and by whom. */
export interface NeighbourConfig {
  readonly url: URL;
  readonly apiKeys: readonly string[];
  /** `remote-management.secret-key`, hashed or not; empty where there is none. */
  readonly managementSecret: string;
  /** ms since the epoch. */
  readonly writtenAt: number;
}

/** `undefined` where there is no config, or none that CLIProxyAPI would take. */
export function readNeighbourConfig(configFile: string, url?: string): NeighbourConfig | undefined {
  let text: string;
  let writtenAt: number;
  try {
    text = readFileSync(configFile, 'utf8');
    writtenAt = statSync(configFile).mtimeMs;
  } catch {
    return undefined;
  }
  const reading = readConfigDocument(text);
  if (reading.state !== 'document' || reading.document.kind !== 'config') return undefined;
  const { values } = reading.document;
  const address = url === undefined ? addressIn(values) : new URL(url);
  if (address === undefined) return undefined;
  const keys = values['api-keys'];
  return {
    url: address,
    apiKeys: Array.isArray(keys) ? keys.filter((key): key is string => typeof key === 'string' && key !== '') : [],
    managementSecret: secretIn(values),
    writtenAt,
  };
}

/** A look at the CLIProxyAPI beside a workspace, as its config says where it listens; on a workspace without a config nobody knows. */
export async function livenessBeside(configFile: string | undefined, url: string | undefined): Promise<Liveness> {
  try {
    const base = url === undefined ? (configFile === undefined ? undefined : readNeighbourConfig(configFile)?.url) : new URL(url);
    return base === undefined ? 'unknown' : await liveness(base);
  } catch {
    return 'unknown';
  }
}

/** Where the management API beside a workspace is, as its config says; `undefined` without a key, or where nobody knows. A config that cannot be read leaves it open whether the key fits. */
export function managementBeside(
  configFile: string | undefined,
  url: string | undefined,
  key: string | undefined,
): ManagementTarget | undefined {
  if (key === undefined || key === '') return undefined;
  const config = configFile === undefined ? undefined : readNeighbourConfig(configFile, url);
  if (config === undefined && configFile !== undefined && existsSync(configFile)) return undefined;
  const address = config?.url ?? (url === undefined ? undefined : new URL(url));
  return address === undefined ? undefined : { url: address, key, secret: config?.managementSecret ?? '' };
}

const DEFAULT_PORT = 8317;

function secretIn(values: Readonly<Record<string, unknown>>): string {
  const management = values['remote-management'] as { 'secret-key'?: unknown } | null | undefined;
  const secret = management?.['secret-key'];
  return typeof secret === 'string' ? secret : '';
}

/** `undefined` for a host or port that no address can have. */
function addressIn(values: Readonly<Record<string, unknown>>): URL | undefined {
  const host = typeof values['host'] === 'string' ? values['host'].trim() : '';
  const isEverywhere = host === '' || host === '0.0.0.0' || host === '::' || host === '[::]';
  const name = isEverywhere ? '127.0.0.1' : host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
  const port = typeof values['port'] === 'number' ? values['port'] : DEFAULT_PORT;
  const tls = values['tls'] as { enable?: unknown } | null | undefined;
  const text = `${tls?.enable === true ? 'https' : 'http'}://${name}:${String(port)}`;
  return URL.canParse(text) ? new URL(text) : undefined;
}
