import { createServer, request as send, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** What happens to a request instead of being passed on. */
export type Fault =
  /** An answer that the server did not give. */
  | { readonly status: number; readonly body?: string; readonly contentType?: string }
  /** The connection breaks before the server hears of it. */
  | 'reset'
  /** The server does its work, and the connection breaks before the answer is there, or in the middle of it. */
  | 'lose-answer'
  | 'cut-answer'
  /** Nothing at all. */
  | 'hang'
  /** Somebody else answers. */
  | ((response: ServerResponse, body: Buffer) => void);

export interface SeenRequest {
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
}

/** An HTTP server in front of another one, which makes trouble on demand. */
export class FaultProxy {
  readonly #target: URL;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly requests: SeenRequest[] = [];
  /** Asked for each request; `undefined` passes it on. */
  fault: (request: SeenRequest) => Fault | undefined = () => undefined;

  private constructor(target: URL) {
    this.#target = target;
    this.#server = createServer((request, response) => {
      this.#handle(request, response);
    });
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  static async before(url: string): Promise<FaultProxy> {
    const proxy = new FaultProxy(new URL(url));
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  /** The address of the target, here. */
  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy is closed');
    return `http://127.0.0.1:${String(address.port)}${this.#target.pathname.replace(/\/$/, '')}`;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const seen = { method: request.method ?? '', path: request.url ?? '', headers: request.headers };
    this.requests.push(seen);
    const fault = this.fault(seen);
    const body: Buffer[] = [];
    request.on('data', (data: Buffer) => body.push(data));
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    if (fault === 'hang') return;
    if (fault === 'reset') request.socket.destroy();
    else
      request.on('end', () => {
        if (typeof fault === 'function') fault(response, Buffer.concat(body));
        else if (typeof fault === 'object')
          response.writeHead(fault.status, { 'content-type': fault.contentType ?? 'application/xml' }).end(fault.body ?? '');
        else this.#passOn(request, Buffer.concat(body), response, fault);
      });
  }

  #passOn(request: IncomingMessage, body: Buffer, response: ServerResponse, fault: 'lose-answer' | 'cut-answer' | undefined): void {
    const { hostname, port, protocol } = this.#target;
    const onward = send(
      { hostname, port, protocol, method: request.method, path: request.url, headers: request.headers, agent: false },
      (answer) => {
        if (fault === 'lose-answer') {
          answer.resume();
          answer.on('end', () => request.socket.destroy());
          return;
        }
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        if (fault === 'cut-answer')
          answer.once('data', (data: Buffer) => {
            response.write(data.subarray(0, data.length / 2), () => request.socket.destroy());
          });
        else answer.pipe(response);
      },
    );
    onward.on('error', () => request.socket.destroy());
    onward.end(body);
  }
}
