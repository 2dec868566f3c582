import pg from 'pg';
import { TokenmirrorError } from '@tokenmirror/core';
import type { ConnectionPlan } from './dsn.js';
import { explain } from './postgres-errors.js';

const DEFAULT_POOL_SIZE = 4;
/** Longer than a poll, so that an idle daemon does not connect anew for each. */
const IDLE_CONNECTION_MS = 60_000;

/** A pool of connections to one server, whose failures are explained. */
export class Connections {
  readonly #plan: ConnectionPlan;
  readonly #timeoutMs: number;
  #config: pg.ClientConfig;
  #pool: pg.Pool | undefined;

  constructor(plan: ConnectionPlan, timeoutMs: number) {
    this.#plan = plan;
    this.#timeoutMs = timeoutMs;
    this.#config = plan.client;
  }

  /** How to connect, with encryption settled. */
  get config(): pg.ClientConfig {
    return this.#config;
  }

  async open(): Promise<void> {
    await this.close();
    this.#config = await negotiate(this.#plan);
    this.#pool = new pg.Pool({
      ...this.#config,
      max: Math.max(2, this.#plan.poolSize ?? DEFAULT_POOL_SIZE),
      query_timeout: this.#timeoutMs,
      keepAlive: true,
      idleTimeoutMillis: IDLE_CONNECTION_MS,
      allowExitOnIdle: true,
    });
    this.#pool.on('error', () => undefined);
  }

  async close(): Promise<void> {
    const pool = this.#pool;
    this.#pool = undefined;
    await pool?.end();
  }

  /** @throws TokenmirrorError STORE_UNREACHABLE, STORE_DENIED, STORE_FULL */
  async use<T>(work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    if (this.#pool === undefined) {
      throw new TokenmirrorError('STORE_UNREACHABLE', `Postgres at ${this.#plan.place}: it was closed`, 'Open it again.');
    }
    let client: pg.PoolClient | undefined;
    try {
      client = await this.#pool.connect();
      client.on('error', ignore);
      const result = await work(client);
      client.off('error', ignore);
      client.release();
      return result;
    } catch (error) {
      client?.release(isBroken(error));
      throw explain(error, this.#plan.place);
    }
  }
}

/** How to connect, with `sslmode=prefer` settled: encrypted where the server can. @throws TokenmirrorError STORE_UNREACHABLE, STORE_DENIED */
export async function negotiate({ sslMode, client: config, place }: ConnectionPlan): Promise<pg.ClientConfig> {
  if (sslMode !== 'prefer' || config.ssl === false) return config;
  const client = new pg.Client(config);
  client.on('error', ignore);
  try {
    await client.connect();
    await client.end();
    return config;
  } catch (error) {
    await client.end().catch(ignore);
    if (/does not support SSL/i.test((error as Error).message)) return { ...config, ssl: false };
    throw explain(error, place);
  }
}

/** A connection that drops while it is in use fails its query; the event besides would end the process. */
function ignore(): void {
  return undefined;
}

/** A connection is kept only after an error that the server itself reported on it, with an SQLSTATE. */
function isBroken(error: unknown): boolean {
  const code = (error as { code?: string } | undefined)?.code ?? '';
  return !/^(?=.*\d)[0-9A-Z]{5}$/.test(code) || code.startsWith('57') || code.startsWith('08');
}
