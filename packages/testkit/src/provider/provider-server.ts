import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createSecureServer, type Http2SecureServer, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCertificates } from './certificates.js';
import { Provider } from './provider.js';

/** Hosts for which the provider has a certificate; a tunnel to any other is refused. */
const HOSTS = ['platform.claude.com', 'api.anthropic.com', 'console.anthropic.com', 'auth.openai.com', 'chatgpt.com'];
const SOCKS = 0x05;

/** The emulated provider behind a proxy for CONNECT and SOCKS5 on one port, TLS inside, HTTP/1.1 and HTTP/2. */
export class ProviderServer {
  readonly provider = new Provider();
  /** A file with the authority, for `SSL_CERT_FILE`. */
  readonly authorityFile: string;
  readonly #directory: string;
  readonly #secure: Http2SecureServer;
  readonly #proxy: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(directory: string, secure: Http2SecureServer) {
    this.#directory = directory;
    this.authorityFile = join(directory, 'authority.pem');
    this.#secure = secure;
    this.#proxy = createServer((socket) => {
      this.#accept(socket);
    });
    secure.on('request', (request, response) => void this.#answer(request, response));
  }

  static async start(): Promise<ProviderServer> {
    const { authority, certificate, key } = await makeCertificates(HOSTS);
    const directory = mkdtempSync(join(tmpdir(), 'tokenmirror-provider-'));
    const server = new ProviderServer(directory, createSecureServer({ cert: certificate, key, allowHTTP1: true }));
    writeFileSync(server.authorityFile, authority);
    await new Promise<void>((resolve) => server.#proxy.listen(0, '127.0.0.1', resolve));
    return server;
  }

  get port(): number {
    return (this.#proxy.address() as AddressInfo).port;
  }

  /** What goes into `proxy-url`. */
  url(scheme: 'http' | 'socks5'): string {
    return `${scheme}://127.0.0.1:${String(this.port)}`;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#proxy.close(resolve));
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.once('data', (first) => {
      if (first[0] === SOCKS) this.#acceptSocks(socket);
      else this.#acceptConnect(socket, first.toString('latin1'));
    });
  }

  #acceptConnect(socket: Socket, head: string): void {
    const host = /^CONNECT ([^:\s]+):443 /.exec(head)?.[1];
    if (host === undefined || !HOSTS.includes(host)) {
      socket.end('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n');
      return;
    }
    socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
    this.#secure.emit('connection', socket);
  }

  #acceptSocks(socket: Socket): void {
    socket.write(Buffer.from([SOCKS, 0]));
    socket.once('data', (request) => {
      const isByName = request[3] === 0x03;
      const host = isByName ? request.subarray(5, 5 + (request[4] ?? 0)).toString('latin1') : '';
      const isKnown = request[1] === 0x01 && HOSTS.includes(host);
      socket.write(Buffer.from([SOCKS, isKnown ? 0 : 0x04, 0, 1, 0, 0, 0, 0, 0, 0]));
      if (isKnown) this.#secure.emit('connection', socket);
      else socket.end();
    });
  }

  async #answer(request: Http2ServerRequest, response: Http2ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const answer = await this.provider.answer({
      method: request.method,
      path: request.url,
      headers: Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, Array.isArray(value) ? value[0] : value])),
      body: Buffer.concat(chunks).toString('utf8'),
    });
    if (answer === undefined) {
      if (request.httpVersionMajor === 2) request.stream.destroy();
      else request.socket.destroy();
      return;
    }
    response.writeHead(answer.status, { ...answer.headers });
    response.end(answer.body);
  }
}
