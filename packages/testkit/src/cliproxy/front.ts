import { createServer as createHttpServer, type IncomingMessage, type Server as HttpServer, type ServerResponse } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import type { CliProxy } from './cliproxy.js';

/** The port of CLIProxyAPI: HTTP, and RESP for a connection that begins with an array. */
export class Front {
  readonly #proxy: CliProxy;
  readonly #http: HttpServer;
  readonly #server: Server;

  constructor(proxy: CliProxy) {
    this.#proxy = proxy;
    this.#http = createHttpServer((request, response) => void this.#answer(request, response));
    this.#server = createServer((socket) => {
      socket.on('error', () => socket.destroy());
      socket.once('data', (first) => {
        socket.pause();
        socket.unshift(first);
        if (first[0] === '*'.charCodeAt(0)) this.#talkResp(socket);
        else this.#http.emit('connection', socket);
        socket.resume();
      });
    });
  }

  listen(port: number, host: string): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, host === '' ? undefined : host, resolve);
    });
  }

  close(): void {
    this.#server.close();
    this.#http.closeAllConnections();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const headers = Object.fromEntries(
      Object.entries(request.headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : value]),
    );
    const answer = await this.#proxy.answer({
      method: request.method ?? 'GET',
      path: url.pathname,
      query: url.searchParams,
      headers,
      address: request.socket.remoteAddress ?? '',
      body: await bodyOf(request),
    });
    const [type, text] = typeof answer.body === 'string' ? ['text/plain', answer.body] : ['application/json', JSON.stringify(answer.body)];
    response.writeHead(answer.status, { 'content-type': type, ...answer.headers });
    response.end(text);
  }

  #talkResp(socket: Socket): void {
    const push = (text: string): void => void socket.write(text);
    const session = { isAuthenticated: false, address: socket.remoteAddress ?? '', push };
    socket.on('close', () => {
      this.#proxy.leave(session);
    });
    let received = '';
    let turn = Promise.resolve();
    socket.on('data', (data) => {
      received += data.toString('utf8');
      for (;;) {
        const command = readCommand(received);
        if (command === undefined) return;
        received = received.slice(command.length);
        turn = turn.then(async () => void socket.write(await this.#proxy.command(command.words, session)));
      }
    });
  }
}

/** One RESP array of bulk strings at the start of the text, if it is complete. */
function readCommand(text: string): { readonly words: readonly string[]; readonly length: number } | undefined {
  const head = /^\*(\d+)\r\n/.exec(text);
  if (head === null) return undefined;
  let at = head[0].length;
  const words: string[] = [];
  for (let n = 0; n < Number(head[1]); n += 1) {
    const size = /^\$(\d+)\r\n/.exec(text.slice(at));
    if (size === null) return undefined;
    const start = at + size[0].length;
    const end = start + Number(size[1]);
    if (text.length < end + 2) return undefined;
    words.push(text.slice(start, end));
    at = end + 2;
  }
  return { words, length: at };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}
