import { hash as bcryptHash } from 'bcryptjs';
import type { Clock } from '@tokenmirror/core';
import { Bans } from './bans.js';
import { CredentialPool, type LoadedCredential } from './credential-pool.js';
import type { Measured } from './facts.js';
import { Management, type ManagementRequest } from './management.js';
import type { Chance, Disk, Network } from './ports.js';
import { readProxyConfig, withValue, type ProxyConfig } from './proxy-config.js';
import { Refresher } from './refresher.js';
import { Serving, type Answer, type ClientCall, type Failure } from './serving.js';
import { UsageBook } from './usage-book.js';

export interface CliProxyParts {
  readonly disk: Disk;
  readonly network: Network;
  readonly clock: Clock;
  readonly chance: Chance;
  readonly measured: Measured;
}

export interface ClientRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly address: string;
  readonly body: string;
}

/** A connection to the RESP port. */
export interface RespSession {
  isAuthenticated: boolean;
  readonly address: string;
  readonly push: (text: string) => void;
}

const CONFIG_DEBOUNCE_MS = 150;
const BCRYPT = /^\$2[aby]\$/;
const BCRYPT_COST = 10;

/** CLIProxyAPI, emulated: what was measured of its files, its refreshes and its management, over ports for the clock, the disk and the network. */
export class CliProxy {
  readonly #parts: CliProxyParts;
  readonly #pool: CredentialPool;
  readonly #refresher: Refresher;
  readonly #serving: Serving;
  readonly #management: Management;
  readonly #bans: Bans;
  /** Connections that listen to the channel `errors`. */
  readonly #subscribers = new Set<RespSession>();
  readonly #usageSubscribers = new Map<RespSession, () => void>();
  readonly #usage: UsageBook;
  /** As the management API shows it, and as clients feel it: in 6.9 the first becomes the second through the watch alone. */
  #config: ProxyConfig;
  #enforced: ProxyConfig;
  #stopWatching: () => void = () => undefined;
  #reloading = false;

  /** @throws Error when the config cannot be used at the start */
  constructor(parts: CliProxyParts) {
    this.#parts = parts;
    const { disk, clock, measured } = parts;
    const config = readProxyConfig(disk.readConfig() ?? '');
    if (config === undefined) throw new Error('the config is empty or not valid');
    this.#config = config;
    this.#enforced = config;
    this.#bans = new Bans(clock, measured.has('bans-after-five'));
    const proxyUrl = (): string | undefined => this.#config.proxyUrl;
    this.#pool = new CredentialPool(parts, (credential) => {
      this.#refresher.considerExpired(credential);
    });
    this.#refresher = new Refresher({ ...parts, pool: this.#pool, proxyUrl });
    const failed = (failure: Failure): void => {
      for (const session of this.#subscribers) session.push(respArray('message', 'errors', JSON.stringify(failure)));
    };
    this.#usage = new UsageBook({
      clock,
      measured,
      isOn: () => this.#config.usageStatistics,
      retentionSeconds: () => this.#config.usageRetentionSeconds,
    });
    this.#serving = new Serving({ ...parts, pool: this.#pool, refresher: this.#refresher, proxyUrl, failed, usage: this.#usage });
    this.#management = new Management({
      ...parts,
      pool: this.#pool,
      bans: this.#bans,
      usage: this.#usage,
      config: () => this.#config,
      apply: (changed) => {
        this.#config = changed;
        const byWatch = (measured.flavour === '6.9') === measured.has('management-enforced-by-watch');
        if (!byWatch) this.#enforced = changed;
      },
    });
  }

  get config(): ProxyConfig {
    return this.#config;
  }

  /** What is in memory, for a test to compare. */
  get credentials(): readonly LoadedCredential[] {
    return this.#pool.all();
  }

  async start(): Promise<void> {
    await this.#hashSecret();
    this.#pool.start();
    this.#refresher.start();
    const { disk, clock, measured } = this.#parts;
    this.#stopWatching = disk.watchConfig(() => {
      if (this.#reloading) return;
      this.#reloading = true;
      clock.after(CONFIG_DEBOUNCE_MS, () => {
        this.#reloading = false;
        if (measured.has('config-reload')) void this.#reload();
      });
    }, !measured.has('config-watched-by-inode'));
  }

  stop(): void {
    this.#stopWatching();
    this.#pool.stop();
    this.#refresher.stop();
  }

  async answer(request: ClientRequest): Promise<Answer> {
    const { method, path } = request;
    if (path.startsWith('/v0/management/')) return this.#management.answer(managementRequest(request));
    if (method === 'GET' && path === '/') return { status: 200, body: { message: 'CLI Proxy API Server' } };
    if (method === 'GET' && path === '/healthz') return { status: 200, body: { status: 'ok' } };
    if (!path.startsWith('/v1/')) return { status: 404, body: '404 page not found' };
    if (!this.#letsIn(request)) return { status: 401, body: { error: 'Invalid API key' } };
    if (method === 'GET' && path === '/v1/models') return this.#serving.models();
    if (method === 'POST' && (path === '/v1/messages' || path === '/v1/chat/completions'))
      return this.#serving.complete(clientCall(request));
    return { status: 404, body: '404 page not found' };
  }

  /** One command of the RESP port; `session` lives as long as its connection. */
  async command(words: readonly string[], session: RespSession): Promise<string> {
    const name = (words[0] ?? '').toUpperCase();
    if (name === 'AUTH') {
      const refusal =
        this.#config.secretKey === ''
          ? { body: { error: 'management is off' } }
          : await this.#management.refusal({ key: words[1] ?? '', address: session.address });
      session.isAuthenticated = refusal === undefined;
      return refusal === undefined ? '+OK\r\n' : `-ERR ${(refusal.body as { error: string }).error}\r\n`;
    }
    const { measured } = this.#parts;
    if (measured.has('resp-needs-auth') && !session.isAuthenticated) return '-NOAUTH Authentication required.\r\n';
    if (name === 'LPOP' && words[1] === 'usage') {
      const popped = this.#usage.pop(words[2] === undefined ? 1 : Math.max(0, Number(words[2])));
      if (words[2] !== undefined) return respArray(...popped);
      return popped[0] === undefined ? '$-1\r\n' : bulk(popped[0]);
    }
    if (name === 'SUBSCRIBE' && words[1] === 'usage' && measured.flavour === '7.2' && measured.has('usage-subscribe')) {
      this.#usageSubscribers.set(
        session,
        this.#usage.subscribe((text) => {
          session.push(respArray('message', 'usage', text));
        }),
      );
      return `*3\r\n${bulk('subscribe')}${bulk('usage')}:1\r\n${respArray('message', 'usage', '{"support_refresh":true}')}`;
    }
    if (name === 'SUBSCRIBE' && words[1] === 'errors' && measured.flavour === '7.2' && measured.has('resp-errors')) {
      this.#subscribers.add(session);
      return `*3\r\n${bulk('subscribe')}${bulk('errors')}:1\r\n`;
    }
    return measured.has('resp-needs-auth') ? `-ERR unknown command '${name.toLowerCase()}'\r\n` : '+OK\r\n';
  }

  /** The connection of a session ended. */
  leave(session: RespSession): void {
    this.#subscribers.delete(session);
    this.#usageSubscribers.get(session)?.();
    this.#usageSubscribers.delete(session);
  }

  #letsIn({ headers }: ClientRequest): boolean {
    const { apiKeys } = this.#enforced;
    if (apiKeys.length === 0) return this.#parts.measured.has('empty-list-opens');
    const bearer = (headers['authorization'] ?? '').replace(/^Bearer /i, '');
    return [headers['x-api-key'] ?? '', bearer].some((key) => apiKeys.includes(key));
  }

  async #reload(): Promise<void> {
    const { disk, measured } = this.#parts;
    const text = disk.readConfig() ?? '';
    const config = readProxyConfig(text);
    if (config === undefined) {
      if (!measured.has('ignores-bad-config')) this.#take({ ...this.#config, apiKeys: [], secretKey: '' });
      return;
    }
    const isCut = config.apiKeys.length === 0 && config.secretKey === '';
    if (isCut && !measured.has('cut-config-opens')) return;
    this.#take(config);
    await this.#hashSecret();
  }

  #take(config: ProxyConfig): void {
    this.#config = config;
    this.#enforced = config;
  }

  async #hashSecret(): Promise<void> {
    const { secretKey } = this.#config;
    const { disk, measured } = this.#parts;
    if (secretKey === '' || BCRYPT.test(secretKey)) return;
    const hashed = await bcryptHash(secretKey, BCRYPT_COST);
    if (this.#config.secretKey !== secretKey) return;
    this.#config = { ...this.#config, secretKey: hashed };
    const text = disk.readConfig();
    if (text !== undefined && measured.has('hashes-secret'))
      disk.writeConfigInPlace(withValue(text, ['remote-management', 'secret-key'], hashed));
  }
}

function bulk(text: string): string {
  return `$${String(Buffer.byteLength(text))}\r\n${text}\r\n`;
}

function respArray(...texts: readonly string[]): string {
  return `*${String(texts.length)}\r\n${texts.map(bulk).join('')}`;
}

function clientCall({ path, headers, address, body }: ClientRequest): ClientCall {
  const bearer = (headers['authorization'] ?? '').replace(/^Bearer /i, '');
  return { path, apiKey: headers['x-api-key'] ?? bearer, body, address, userAgent: headers['user-agent'] ?? '' };
}

function managementRequest({ method, path, query, headers, address, body }: ClientRequest): ManagementRequest {
  const bearer = (headers['authorization'] ?? '').replace(/^Bearer /i, '');
  return { method, path: path.slice('/v0/management'.length), query, key: headers['x-management-key'] ?? bearer, address, body };
}
