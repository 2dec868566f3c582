import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  API_KEY,
  CliProxyProcess,
  ProviderServer,
  temporaryDirectory,
  until,
  type Fact,
  type Flavour,
  type Provider,
} from '@tokenmirror/testkit';

/** One measured fact about CLIProxyAPI, as a test that drives nothing but files, HTTP, RESP and the process. */
export interface Clause {
  readonly proves: Fact;
  readonly title: string;
  /** Where it was measured; both when absent. */
  readonly flavours?: readonly Flavour[];
  /** Takes minutes. */
  readonly slow?: true;
  readonly run: (world: World) => Promise<void>;
}

type Fields = Record<string, unknown>;

/** How long the program has for what it does "at once", in ms; the worst reports are of 2 s. */
const PATIENCE_MS = 20_000;
const HOUR_MS = 3_600_000;

/** One CLIProxyAPI, not started, with a provider of its own. */
export class World {
  readonly cpa: CliProxyProcess;
  readonly flavour: Flavour;
  readonly #server: ProviderServer;

  private constructor(cpa: CliProxyProcess, flavour: Flavour, server: ProviderServer) {
    this.cpa = cpa;
    this.flavour = flavour;
    this.#server = server;
  }

  static async create(flavour: Flavour, without: readonly Fact[] = []): Promise<World> {
    const server = await ProviderServer.start();
    const cpa = new CliProxyProcess({
      flavour,
      without,
      workspace: temporaryDirectory('upstream'),
      proxyUrl: server.url('socks5'),
      authorityFile: server.authorityFile,
    });
    return new World(cpa, flavour, server);
  }

  get provider(): Provider {
    return this.#server.provider;
  }

  async destroy(): Promise<void> {
    await this.cpa.end('SIGKILL');
    await this.#server.stop();
  }

  /** A fresh login, far from its expiry. */
  claude(more: Fields = {}): Fields {
    const email = 'claude@example.com';
    const { access_token, refresh_token } = this.provider.issue('claude', email);
    return {
      type: 'claude',
      email,
      access_token,
      refresh_token,
      expired: inMs(7 * HOUR_MS),
      last_refresh: inMs(-HOUR_MS),
      disabled: false,
      ...more,
    };
  }

  codex(more: Fields = {}): Fields {
    const email = 'codex@example.com';
    const { access_token, refresh_token, id_token } = this.provider.issue('codex', email);
    return {
      type: 'codex',
      email,
      access_token,
      refresh_token,
      id_token,
      account_id: `account-${email}`,
      expired: inMs(240 * HOUR_MS),
      last_refresh: inMs(-HOUR_MS),
      disabled: false,
      ...more,
    };
  }

  path(name: string): string {
    return join(this.cpa.authDir, name);
  }

  /** Writes a credential as we do: a hidden temporary file, renamed into its place. */
  async put(name: string, fields: Fields): Promise<void> {
    const path = this.path(name);
    await mkdir(dirname(path), { recursive: true });
    const temporary = join(dirname(path), `.put-${String(Math.random()).slice(2)}.tmp`);
    writeFileSync(temporary, JSON.stringify(fields), { mode: 0o600 });
    renameSync(temporary, path);
  }

  text(name: string): string {
    return readFileSync(this.path(name), 'utf8');
  }

  config(): string {
    return readFileSync(this.cpa.configFile, 'utf8');
  }

  async status(service: 'claude' | 'codex' = 'claude'): Promise<number> {
    return (await this.cpa.message(service)).status;
  }

  async models(key: string | undefined): Promise<number> {
    return (await this.cpa.http('GET', '/v1/models', key === undefined ? {} : { authorization: `Bearer ${key}` })).status;
  }

  /** Starts the program and waits until it has loaded a credential of this service; the port opens before that. */
  async startLoaded(service: 'claude' | 'codex' = 'claude'): Promise<void> {
    await this.cpa.start();
    const model = service === 'claude' ? 'claude-' : 'gpt-';
    await this.soon('the credential is loaded', async () =>
      (await this.cpa.http('GET', '/v1/models', { authorization: `Bearer ${API_KEY}` })).text.includes(model),
    );
  }

  /** A credential as it stands in its file, once it can be read whole: it is written in place. */
  async credential(name: string): Promise<Fields> {
    await this.soon('it can be read', () => this.cpa.credential(name) !== undefined);
    return this.cpa.credential(name) ?? (await this.credential(name));
  }

  /** Something happens within the patience. */
  async soon(what: string, condition: () => boolean | Promise<boolean>, ms = PATIENCE_MS): Promise<void> {
    await until(what, condition, ms);
  }

  /** Something stays so for a while. */
  async stays(what: string, condition: () => boolean | Promise<boolean>, ms: number): Promise<void> {
    const end = performance.now() + ms;
    while (performance.now() < end) {
      if (!(await condition())) throw new Error(`did not stay so: ${what}`);
      await delay(50);
    }
  }

  /** Clients that ask without a pause, until the work is done. */
  async underLoad(clients: number, work: () => Promise<void>): Promise<void> {
    let isOver = false;
    const client = async (): Promise<void> => {
      while (!isOver) await this.cpa.message('claude').catch(() => undefined);
    };
    const all = Array.from({ length: clients }, client);
    try {
      await work();
    } finally {
      isOver = true;
      await Promise.all(all);
    }
  }
}

/** RFC 3339 with the resolution of a second. */
export function inMs(ms: number): string {
  return new Date(Date.now() + ms).toISOString().replace(/\.\d+Z$/, 'Z');
}

export const PAST = '2020-01-01T00:00:00Z';

export function mustBe(what: string, condition: boolean): void {
  if (!condition) throw new Error(`not so: ${what}`);
}
