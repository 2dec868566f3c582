import { createHash, timingSafeEqual } from 'node:crypto';
import rateLimit from '@fastify/rate-limit';
import swagger from '@fastify/swagger';
import fastify, { type FastifyError, type FastifyInstance, type FastifyRequest } from 'fastify';
import { messageOf, TokenmirrorError, type Log } from '@tokenmirror/core';
import { httpStatusOf } from '@tokenmirror/key-expiry';
import type { ListenAddress } from '../options/option-values.js';
import type { Redact } from '../redaction.js';
import { VERSION } from '../version.js';
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
  /** What the companions add. */
  readonly routes: (app: FastifyInstance) => void;
}

/** Answered without a token: what a probe needs to know, and no more. */
const OPEN_PATHS: ReadonlySet<string> = new Set(['/livez', '/readyz', '/healthz']);
const BODY_BYTES = 64 * 1024;
/** From one address; whoever guesses at the token is slowed down by it. */
const REQUESTS_A_MINUTE = 300;

/** Health, metrics, the companions' API, and `/openapi.json`, which tells of it. @throws TokenmirrorError OPTION_INVALID for an address that others can reach, without a token */
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
    this.#server = fastify({
      logger: false,
      bodyLimit: BODY_BYTES,
      forceCloseConnections: true,
      ajv: { customOptions: { removeAdditional: false } },
    });
    this.#server.setErrorHandler((error: FastifyError | TokenmirrorError, _, reply) => {
      if (error instanceof TokenmirrorError) return reply.code(httpStatusOf(error)).send(problem(error.code, error.message, error.remedy));
      const status = error.statusCode ?? 500;
      const about = error.validation === undefined ? 'the request failed' : error.message;
      return reply
        .code(status)
        .send(status < 500 ? problem(CODES[status] ?? 'BAD_REQUEST', about) : problem('INTERNAL', 'the request failed'));
    });
    this.#server.addHook('onSend', (request, __, payload) =>
      Promise.resolve(typeof payload === 'string' && request.routeOptions.config.showsKey !== true ? parts.redact(payload) : payload),
    );
    void this.#server.register(rateLimit, { max: REQUESTS_A_MINUTE, allowList: ({ url }) => OPEN_PATHS.has(url) });
    void this.#server.register(swagger, { openapi: { openapi: '3.0.3', info: { title: 'Tokenmirror', version: VERSION }, ...SECURITY } });
    void this.#server.register((app, _, done) => {
      app.addHook('preParsing', async (request, reply) => {
        if (OPEN_PATHS.has(request.routeOptions.url ?? '') || this.#isLetIn(request)) return;
        await reply.code(401).send(problem('UNAUTHORIZED', 'a bearer token is needed'));
      });
      app.setNotFoundHandler((_, reply) => reply.code(404).send(problem('NOT_FOUND', 'there is no such page')));
      this.#routes(app);
      parts.routes(app);
      done();
    });
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

  #routes(app: FastifyInstance): void {
    const { health, status, metrics } = this.#parts;
    const told = (summary: string, response: Readonly<Record<number, unknown>> = {}) => ({
      schema: { tags: ['health'], summary, response },
    });
    const STATUS = { type: 'object', properties: { status: { type: 'string' } }, required: ['status'] };
    const alive = (): unknown => ({ status: 'alive' });
    app.get('/livez', told('The process is there', { 200: STATUS }), alive);
    app.get('/healthz', told('The same, under the name that others use', { 200: STATUS }), alive);
    app.get('/readyz', told('Whether the workspace can be served from; the reasons with a token only'), (request, reply) => {
      const { isReady, state, reasons } = health();
      return reply.code(isReady ? 200 : 503).send(this.#isLetIn(request) ? { status: state, reasons } : { status: state });
    });
    app.get('/status', told('Everything that the daemon knows of itself'), () => status());
    app.get('/metrics', told('For Prometheus'), async (_, reply) => reply.type(metrics.contentType).send(await metrics.text()));
    app.get('/openapi.json', told('This document'), () => this.#server.swagger());
  }

  #isLetIn({ headers }: FastifyRequest): boolean {
    const { token } = this.#parts;
    if (token === undefined) return true;
    const given = headers['x-apim-token'] ?? headers.authorization?.replace(/^Bearer /i, '') ?? '';
    return timingSafeEqual(digest(String(given)), digest(token));
  }
}

const CODES: Readonly<Record<number, string>> = { 413: 'BODY_TOO_LARGE', 415: 'UNSUPPORTED_MEDIA_TYPE', 429: 'TOO_MANY_REQUESTS' };

const SECURITY = {
  components: {
    securitySchemes: {
      bearer: { type: 'http' as const, scheme: 'bearer' },
      header: { type: 'apiKey' as const, in: 'header', name: 'X-APIM-Token' },
    },
  },
  security: [{ bearer: [] }, { header: [] }],
};

function problem(code: string, message: string, remedy?: string): unknown {
  return { error: { code, message, ...(remedy === undefined ? {} : { remedy }) } };
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
