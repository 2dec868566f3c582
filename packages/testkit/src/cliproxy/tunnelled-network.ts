import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as tlsConnect } from 'node:tls';
import { SocksClient } from 'socks';
import type { Network, UpstreamAnswer, UpstreamRequest } from './ports.js';

/** HTTPS through `proxy-url`, by CONNECT or SOCKS5, trusting what `SSL_CERT_FILE` names. */
export class TunnelledNetwork implements Network {
  readonly #agents = new Map<string, Agent>();
  readonly #authority = process.env['SSL_CERT_FILE'];

  send({ method, url, headers, body, timeoutMs }: UpstreamRequest, proxyUrl: string | undefined): Promise<UpstreamAnswer> {
    return new Promise((resolve, reject) => {
      const length = Buffer.byteLength(body);
      const request = httpsRequest(
        url,
        { method, headers: { ...headers, 'content-length': length }, agent: this.#agentFor(proxyUrl ?? ''), timeout: timeoutMs },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            const found = Object.fromEntries(Object.entries(response.headers).map(([name, value]) => [name, String(value)]));
            resolve({ status: response.statusCode ?? 0, headers: found, body: Buffer.concat(chunks).toString('utf8') });
          });
        },
      );
      request.on('timeout', () => request.destroy(new Error('the provider took too long')));
      request.on('error', reject);
      request.end(body);
    });
  }

  close(): void {
    for (const agent of this.#agents.values()) agent.destroy();
  }

  #agentFor(proxyUrl: string): Agent {
    const known = this.#agents.get(proxyUrl);
    if (known !== undefined) return known;
    const ca = this.#authority === undefined ? undefined : readFileSync(this.#authority);
    const agent = new Agent({ keepAlive: true, ...(ca === undefined ? {} : { ca }) });
    if (proxyUrl !== '') {
      agent.createConnection = (options, callback) => {
        const host = String(options.host);
        tunnel(new URL(proxyUrl), host, Number(options.port)).then(
          (socket) => callback?.(null, tlsConnect({ socket, servername: host, ...(ca === undefined ? {} : { ca }) })),
          (error: unknown) => callback?.(error as Error, undefined as unknown as Duplex),
        );
        return undefined;
      };
    }
    this.#agents.set(proxyUrl, agent);
    return agent;
  }
}

function tunnel(proxy: URL, host: string, port: number): Promise<Socket> {
  return proxy.protocol.startsWith('socks') ? throughSocks(proxy, host, port) : throughConnect(proxy, host, port);
}

async function throughSocks(proxy: URL, host: string, port: number): Promise<Socket> {
  const { socket } = await SocksClient.createConnection({
    proxy: { host: proxy.hostname, port: Number(proxy.port), type: 5 },
    command: 'connect',
    destination: { host, port },
  });
  return socket;
}

function throughConnect(proxy: URL, host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: `${host}:${String(port)}` });
    request.on('connect', (response, socket) => {
      if (response.statusCode === 200) resolve(socket);
      else reject(new Error(`the proxy answered ${String(response.statusCode)}`));
    });
    request.on('error', reject);
    request.end();
  });
}
