import { createHash, timingSafeEqual } from 'node:crypto';
import fastify, { type FastifyInstance, type FastifyRequest } from 'fastify';
import { messageOf, TokenmirrorError, type Log } from '@tokenmirror/core';
import type { ListenAddress } from '../options/option-values.js';
import type { Redact } from '../redaction.js';
import type { Health } from './health.js';

export interface HttpServerParts {
  readonly listen: ListenAddress;
  readonly token: string | undefined;
  readonly log: Log;
  readonly redact: Redact;
  readonly health: () => Health;
  /** The whole report, for `/status`. */
  readonly status: () => unknown;
  readonly metrics: { readonly contentType: string; text(): Promise<string> };
}

/** Answered without a token: what a probe needs to know, and no more. */
const OPEN_PATHS: ReadonlySet<string> = new Set(['/livez', '/readyz']);
const BODY_BYTES = 64 * 1024;

/** `/livez`, `/readyz`, `/status` and `/metrics`. @throws TokenmirrorError OPTION_INVALID for an address that others can reach, without a token */
export class HttpServer {
  readonly #parts: HttpServerParts;
  readonly #server: FastifyInstance;

  constructor(parts: HttpServerParts) {
    const { listen, token } = parts;
    if (!listen.isLoopback && token === undefined)
      throw new TokenmirrorError(
        'OPTION_INVALID',
        `http-listen is ${listen.host}:${String(listen.port)}, which others can reach, and there is no http-token`,
        'Set TOKENMIRROR_HTTP_TOKEN, or listen on 127.0.0.1.',
      );
    this.#parts = parts;
    this.#server = fastify({ logger: false, bodyLimit: BODY_BYTES, forceCloseConnections: true });
    this.#server.addHook('onRequest', async (request, reply) => {
      if (OPEN_PATHS.has(request.routeOptions.url ?? '') || this.#isLetIn(request)) return;
      await reply.code(401).send({ error: { code: 'UNAUTHORIZED', message: 'a bearer token is needed' } });
    });
    this.#server.addHook('onSend', (_, __, payload) => Promise.resolve(typeof payload === 'string' ? parts.redact(payload) : payload));
    this.#server.setNotFoundHandler((_, reply) => reply.code(404).send({ error: { code: 'NOT_FOUND', message: 'there is no such page' } }));
    this.#server.setErrorHandler((error: { statusCode?: number }, _, reply) => {
      const status = error.statusCode ?? 500;
      return reply.code(status).send({ error: { code: status < 500 ? 'BAD_REQUEST' : 'INTERNAL', message: 'the request failed' } });
    });
    this.#routes();
  }

  /** A port that is taken is told, and nothing else suffers. Resolves to where it listens, with the port that was given. */
  async start(): Promise<string | undefined> {
    const { listen, log } = this.#parts;
    try {
      const address = await this.#listen(listen);
      log.info('http-listening', { address });
      return address;
    } catch (error) {
      log.warn('http-unavailable', {
        address: `${listen.host}:${String(listen.port)}`,
        reason: (error as NodeJS.ErrnoException).code ?? messageOf(error),
        remedy: 'Give each daemon of a machine its own http-listen, or off. Everything else goes on.',
      });
      return undefined;
    }
  }

  async stop(): Promise<void> {
    await this.#server.close();
  }

  /** Every address of both families, or of the one that there is. */
  async #listen({ host, port }: ListenAddress): Promise<string> {
    try {
      return await this.#server.listen({ host, port });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (host !== '::' || (code !== 'EAFNOSUPPORT' && code !== 'EADDRNOTAVAIL')) throw error;
      return this.#server.listen({ host: '0.0.0.0', port });
    }
  }

  #routes(): void {
    const { health, status, metrics } = this.#parts;
    this.#server.get('/livez', () => ({ status: 'alive' }));
    this.#server.get('/readyz', (request, reply) => {
      const { isReady, state, reasons } = health();
      return reply.code(isReady ? 200 : 503).send(this.#isLetIn(request) ? { status: state, reasons } : { status: state });
    });
    this.#server.get('/status', () => status());
    this.#server.get('/metrics', async (_, reply) => reply.type(metrics.contentType).send(await metrics.text()));
  }

  #isLetIn({ headers }: FastifyRequest): boolean {
    const { token } = this.#parts;
    if (token === undefined) return true;
    const given = headers['x-apim-token'] ?? headers.authorization?.replace(/^Bearer /i, '') ?? '';
    return timingSafeEqual(digest(String(given)), digest(token));
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
