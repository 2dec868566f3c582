import { createServer, connect, type Server, type Socket } from 'node:net';

/** The first byte of a message by which Postgres delivers a notification. */
const NOTIFICATION = 0x41;

/** A TCP proxy in front of a server, which can go silent: connections stay open and nothing passes. */
export class SilentProxy {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #silent = false;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** With `swallowNotifications` it is a pooler through which LISTEN hears nothing. */
  static async before(port: number, { swallowNotifications = false } = {}): Promise<SilentProxy> {
    const server = createServer();
    const proxy = new SilentProxy(server);
    server.on('connection', (client) => {
      const upstream = connect(port, '127.0.0.1');
      const pair = [client, upstream] as const;
      proxy.#pairs.add(pair);
      const end = (): void => {
        proxy.#pairs.delete(pair);
        client.destroy();
        upstream.destroy();
      };
      for (const socket of pair) socket.on('error', end).on('close', end);
      client.on('data', (data) => {
        if (!proxy.#silent) upstream.write(data);
      });
      upstream.on('data', (data) => {
        if (!proxy.#silent && !(swallowNotifications && data[0] === NOTIFICATION)) client.write(data);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy is closed');
    return address.port;
  }

  /** From now on nothing passes, and nobody is told. */
  goSilent(): void {
    this.#silent = true;
  }

  /** New connections work again; those that were silent stay so, and lost what was sent. */
  speak(): void {
    this.#silent = false;
  }

  cutAll(): void {
    for (const [client, upstream] of this.#pairs) {
      client.destroy();
      upstream.destroy();
    }
  }

  async close(): Promise<void> {
    this.cutAll();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
