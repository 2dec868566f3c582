import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';

const HEARTBEAT_MS = 30_000;
/** How long a server may take to say goodbye; a half-open connection never does. */
const FAREWELL_MS = 1000;
const LONGEST_WAIT_MS = 15_000;

export interface ListenerOptions {
  readonly config: pg.ClientConfig;
  readonly channel: string;
  readonly timeoutMs: number;
  readonly hint: () => void;
}

/** One connection that listens, comes back by itself, and finds out by a heartbeat when it is connected to nobody. */
export class Listener {
  readonly #options: ListenerOptions;
  #client: pg.Client | undefined;
  #timer: NodeJS.Timeout | undefined;
  #attempt = 0;
  #stopped = false;

  constructor(options: ListenerOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    if (this.#stopped) return;
    const { config, channel, hint, timeoutMs } = this.#options;
    const client = new pg.Client({ ...config, keepAlive: true, query_timeout: timeoutMs });
    this.#client = client;
    let over = false;
    const end = (): void => {
      if (over) return;
      over = true;
      client.end().catch(() => undefined);
      this.#comeBack();
    };
    client.on('error', end);
    client.on('end', end);
    client.on('notification', hint);
    try {
      await client.connect();
      await client.query(`LISTEN ${pg.escapeIdentifier(channel)}`);
      this.#attempt = 0;
      this.#beat(client, end);
      hint();
    } catch {
      end();
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    const ended = this.#client?.end().catch(() => undefined);
    await Promise.race([ended, delay(FAREWELL_MS, undefined, { ref: false })]);
  }

  #beat(client: pg.Client, lost: () => void): void {
    this.#timer = setTimeout(() => {
      client.query('SELECT 1').then(() => {
        if (!this.#stopped && client === this.#client) this.#beat(client, lost);
      }, lost);
    }, HEARTBEAT_MS);
    this.#timer.unref();
  }

  #comeBack(): void {
    if (this.#stopped) return;
    clearTimeout(this.#timer);
    const wait = Math.min(LONGEST_WAIT_MS, 200 * 2 ** this.#attempt) * (0.5 + Math.random() / 2);
    this.#attempt += 1;
    this.#timer = setTimeout(() => void this.start(), wait);
    this.#timer.unref();
  }
}
