import { compare } from 'bcryptjs';
import { VERSIONS, type Measured } from './facts.js';
import type { Bans } from './bans.js';
import { parseCredential, textField, type CredentialPool, type LoadedCredential } from './credential-pool.js';
import type { Clock } from '@tokenmirror/core';
import type { Disk } from './ports.js';
import { readProxyConfig, withValue, type ProxyConfig } from './proxy-config.js';
import type { Answer } from './serving.js';
import type { UsageBook } from './usage-book.js';

export interface ManagementRequest {
  readonly method: string;
  /** Below `/v0/management`. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly key: string;
  readonly address: string;
  readonly body: string;
}

export interface ManagementParts {
  readonly clock: Clock;
  readonly disk: Disk;
  readonly pool: CredentialPool;
  readonly bans: Bans;
  readonly measured: Measured;
  readonly usage: UsageBook;
  readonly config: () => ProxyConfig;
  /** Takes a config that was changed through a call, at once. */
  readonly apply: (config: ProxyConfig) => void;
}

const OK: Answer = { status: 200, body: { status: 'ok' } };
const NOT_THERE: Answer = { status: 404, body: '404 page not found' };

/** The management API, as far as it was measured. */
export class Management {
  readonly #parts: ManagementParts;

  constructor(parts: ManagementParts) {
    this.#parts = parts;
  }

  async answer(request: ManagementRequest): Promise<Answer> {
    const { measured, config } = this.#parts;
    const answer = config().secretKey === '' ? await this.#withoutSecret(request) : ((await this.refusal(request)) ?? this.#route(request));
    return measured.has('tells-version') && answer.status !== 404
      ? { ...answer, headers: { ...answer.headers, 'x-cpa-version': VERSIONS[measured.flavour] } }
      : answer;
  }

  /** Why this caller is not let in, or `undefined`. Costs what bcrypt costs. */
  async refusal({ key, address }: Pick<ManagementRequest, 'key' | 'address'>): Promise<Answer | undefined> {
    const { bans, config } = this.#parts;
    const isLocal = /^(::1|(::ffff:)?127\.)/.test(address);
    if (!isLocal && !config().allowRemote) return error(403, 'remote management disabled');
    const banned = bans.messageFor(address);
    if (banned !== undefined) return error(403, banned);
    if (key === '') {
      bans.failed(address);
      return error(401, 'missing management key');
    }
    if (!(await compare(key, config().secretKey))) {
      bans.failed(address);
      return error(401, 'invalid management key');
    }
    bans.succeeded(address);
    return undefined;
  }

  async #withoutSecret(request: ManagementRequest): Promise<Answer> {
    return this.#parts.measured.has('management-needs-secret') ? NOT_THERE : await Promise.resolve(this.#route(request));
  }

  #route(request: ManagementRequest): Answer {
    const { method, path } = request;
    const { usage } = this.#parts;
    switch (`${method} ${path}`) {
      case 'GET /api-keys':
        return { status: 200, body: { 'api-keys': this.#listedKeys() } };
      case 'PUT /api-keys':
        return this.#putApiKeys(request.body);
      case 'PATCH /api-keys':
        return this.#patchApiKeys(request.body);
      case 'DELETE /api-keys':
        return this.#deleteApiKey(request.query.get('value') ?? '');
      case 'GET /usage/export':
        return usage.keepsStatistics ? { status: 200, body: usage.export() } : NOT_THERE;
      case 'POST /usage/import':
        return usage.keepsStatistics ? { status: 200, body: usage.import(jsonIn(request.body)) } : NOT_THERE;
      case 'GET /usage-queue':
        return this.#popUsage(request.query.get('count'));
      case 'GET /usage-statistics-enabled':
        return { status: 200, body: { 'usage-statistics-enabled': this.#parts.config().usageStatistics } };
      case 'PUT /usage-statistics-enabled':
        return this.#change(['usage-statistics-enabled'], valueIn(request.body) === true);
      case 'GET /config.yaml':
        return { status: 200, headers: { 'content-type': 'application/yaml' }, body: this.#parts.disk.readConfig() ?? '' };
      case 'PUT /config.yaml':
        return this.#putConfig(request.body);
      case 'GET /auth-files':
        return { status: 200, body: { files: this.#parts.pool.all().map((credential) => this.#entryOf(credential)) } };
      case 'GET /auth-files/download':
        return this.#download(request.query.get('name') ?? '');
      case 'POST /auth-files':
        return this.#upload(request.query.get('name') ?? '', request.body);
      case 'DELETE /auth-files':
        return this.#deleteFile(request.query);
      case 'PATCH /auth-files/status':
        return this.#patchFields(request.body, ({ disabled }) => ({ disabled: disabled === true }));
      case 'PATCH /auth-files/fields':
        return this.#patchFields(request.body, (values) => Object.fromEntries(Object.entries(values).filter(([name]) => name !== 'name')));
      default:
        return NOT_THERE;
    }
  }

  #popUsage(written: string | null): Answer {
    const { usage, measured } = this.#parts;
    if (measured.flavour !== '7.2' || !measured.has('usage-queue-http')) return NOT_THERE;
    const count = written === null ? 1 : Number(written);
    if (!Number.isSafeInteger(count) || count < 1) return error(400, 'invalid count');
    return { status: 200, body: usage.pop(count).map((text) => JSON.parse(text) as unknown) };
  }

  #entryOf({ path, fields, suspendedUntil, message, succeeded, failed }: LoadedCredential): Readonly<Record<string, unknown>> {
    const { clock, measured } = this.#parts;
    const left = suspendedUntil - clock.monotonic();
    const disabled = fields['disabled'] === true;
    const common = { id: path, name: path, type: textField(fields, 'type'), provider: textField(fields, 'type'), disabled };
    const counts = measured.has('counts-requests') ? { success: succeeded, failed } : {};
    if (!measured.has('lists-suspended')) return { ...common, ...counts };
    const isSuspended = left > 0;
    return {
      ...common,
      ...counts,
      status: disabled ? 'disabled' : isSuspended ? 'error' : 'active',
      status_message: isSuspended ? message : '',
      unavailable: isSuspended,
      ...(isSuspended ? { next_retry_after: new Date(clock.now() + left).toISOString() } : {}),
    };
  }

  #listedKeys(): readonly string[] | null {
    const { apiKeys, hasKeyList } = this.#parts.config();
    return hasKeyList || !this.#parts.measured.has('null-key-list') ? apiKeys : null;
  }

  #putApiKeys(body: string): Answer {
    const value = jsonIn(body);
    const { measured } = this.#parts;
    const items = (value as { items?: unknown } | undefined)?.items;
    if (isKeyList(value)) return this.#change(['api-keys'], value);
    if (isKeyList(items) && (items.length > 0 || !measured.has('refuses-empty-items'))) return this.#change(['api-keys'], items);
    return error(400, 'invalid body');
  }

  #patchApiKeys(body: string): Answer {
    const value = jsonIn(body) as { old?: unknown; new?: unknown } | undefined;
    if (typeof value?.new !== 'string') return error(400, 'invalid body');
    const keys = [...this.#parts.config().apiKeys];
    const at = keys.indexOf(String(value.old));
    keys.splice(at === -1 ? keys.length : at, at === -1 ? 0 : 1, value.new);
    return this.#change(['api-keys'], keys);
  }

  #deleteApiKey(value: string): Answer {
    const { apiKeys } = this.#parts.config();
    if (!apiKeys.includes(value) && !this.#parts.measured.has('delete-absent-is-ok')) return error(404, 'not found');
    return this.#change(
      ['api-keys'],
      apiKeys.filter((key) => key !== value),
    );
  }

  #change(path: readonly string[], value: unknown): Answer {
    const { disk, apply, measured } = this.#parts;
    const text = withValue(disk.readConfig() ?? '', path, value, measured.has('keeps-comments'));
    const config = readProxyConfig(text);
    if (config !== undefined && measured.has('applies-before-saving')) apply(config);
    try {
      disk.writeConfigInPlace(text);
    } catch {
      return error(500, 'failed to save config');
    }
    if (config !== undefined) apply(config);
    return OK;
  }

  #putConfig(body: string): Answer {
    const config = readProxyConfig(body);
    if (config === undefined) return error(400, 'invalid_yaml');
    this.#parts.disk.writeConfigInPlace(body);
    this.#parts.apply(config);
    return OK;
  }

  #download(name: string): Answer {
    const text = isFileName(name) ? this.#parts.disk.read(name) : undefined;
    return text === undefined ? error(404, 'file not found') : { status: 200, headers: { 'content-type': 'application/json' }, body: text };
  }

  #upload(name: string, body: string): Answer {
    const fields = parseCredential(body);
    if (!isFileName(name) || fields === undefined) return error(400, 'invalid body');
    this.#parts.pool.put(name, fields);
    return OK;
  }

  #deleteFile(query: URLSearchParams): Answer {
    const { pool, disk } = this.#parts;
    const name = query.get('name') ?? '';
    const names = query.get('all') === 'true' ? disk.list().filter((path) => !path.includes('/')) : [name];
    if (names.some((one) => !isFileName(one) || disk.read(one) === undefined)) return error(404, 'file not found');
    for (const one of names) {
      pool.forget(one);
      disk.remove(one);
    }
    return OK;
  }

  #patchFields(body: string, change: (values: Record<string, unknown>) => Record<string, unknown>): Answer {
    const values = (jsonIn(body) ?? {}) as Record<string, unknown>;
    const credential = this.#parts.pool.get(String(values['name']));
    if (credential === undefined) return error(404, 'auth file not found');
    this.#parts.pool.put(credential.path, { ...credential.fields, ...change(values) });
    return OK;
  }
}

function isKeyList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((key) => typeof key === 'string');
}

function isFileName(name: string): boolean {
  return name.endsWith('.json') && !/[/\\]/.test(name);
}

function jsonIn(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

function valueIn(body: string): unknown {
  return (jsonIn(body) as { value?: unknown } | undefined)?.value;
}

function error(status: number, message: string): Answer {
  return { status, body: { error: message } };
}
