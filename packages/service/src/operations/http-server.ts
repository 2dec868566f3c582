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
/** From one address. */
const REQUESTS_A_MINUTE = 300;

/** Health, metrics, the companions' API, and `/openapi.json`, which tells of it. @throws TokenmirrorError OPTION_INVALID for an address that others can reach, without a token */
export class HttpServer {
  readonly #parts: HttpServerParts;
  readonly #server: FastifyInstance;
  readonly #guesses = new Guesses();

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
    this.#server.addHook('preSerialization', (request, _, payload) =>
      Promise.resolve(request.routeOptions.config.showsKey === true ? payload : redactedIn(payload, parts.redact)),
    );
    this.#server.addHook('onSend', (_, reply, payload) =>
      Promise.resolve(
        typeof payload === 'string' && !String(reply.getHeader('content-type')).includes('json') ? parts.redact(payload) : payload,
      ),
    );
    void this.#server.register(rateLimit, { max: REQUESTS_A_MINUTE, allowList: ({ url }) => OPEN_PATHS.has(url) });
    void this.#server.register(swagger, { openapi: { openapi: '3.0.3', info: { title: 'Tokenmirror', version: VERSION }, ...SECURITY } });
    void this.#server.register((app, _, done) => {
      app.addHook('preParsing', async (request, reply) => {
        if (OPEN_PATHS.has(request.routeOptions.url ?? '')) return;
        if (!this.#isOwnPage(request))
          await reply.code(403).send(problem('FORBIDDEN', 'without a token only this machine is served, by its own name'));
        else if (this.#guesses.isBlocked(request.ip)) await reply.code(429).send(problem('TOO_MANY_REQUESTS', 'too many wrong tokens'));
        else if (!this.#isLetIn(request)) await reply.code(401).send(problem('UNAUTHORIZED', 'a bearer token is needed'));
      });
      app.setNotFoundHandler({ preHandler: app.rateLimit() }, (_, reply) =>
        reply.code(404).send(problem('NOT_FOUND', 'there is no such page')),
      );
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
      const isTold = !this.#guesses.isBlocked(request.ip) && this.#isLetIn(request);
      return reply.code(isReady ? 200 : 503).send(isTold ? { status: state, reasons } : { status: state });
    });
    app.get('/status', told('Everything that the daemon knows of itself'), () => status());
    app.get('/metrics', told('For Prometheus'), async (_, reply) => reply.type(metrics.contentType).send(await metrics.text()));
    app.get('/openapi.json', told('This document'), () => this.#server.swagger());
  }

  #isLetIn({ headers, ip }: FastifyRequest): boolean {
    const { token } = this.#parts;
    if (token === undefined) return true;
    const given = headers['x-apim-token'] ?? headers.authorization?.replace(/^Bearer /i, '');
    const isRight = given !== undefined && timingSafeEqual(digest(String(given)), digest(token));
    if (given !== undefined && !isRight) this.#guesses.add(ip);
    return isRight;
  }

  /** Without a token a page of somebody else's, in a browser of this machine, must not be able to ask. */
  #isOwnPage({ headers }: FastifyRequest): boolean {
    if (this.#parts.token !== undefined) return true;
    const names = [`http://${headers.host ?? ''}`, headers.origin].filter((name) => name !== undefined);
    return names.every((name) => URL.canParse(name) && LOOPBACK.test(new URL(name).hostname));
  }
}

/** Wrong tokens by address: after so many in a minute nothing more is looked at, be it right or wrong. */
class Guesses {
  readonly #wrong = new Map<string, { count: number; readonly since: number }>();

  isBlocked(address: string): boolean {
    const found = this.#wrong.get(address);
    if (found === undefined) return false;
    if (performance.now() - found.since < GUESSES_LAST_MS) return found.count >= MOST_GUESSES;
    this.#wrong.delete(address);
    return false;
  }

  add(address: string): void {
    if (this.#wrong.size > MOST_ADDRESSES) this.#wrong.clear();
    const found = this.#wrong.get(address);
    if (found === undefined) this.#wrong.set(address, { count: 1, since: performance.now() });
    else found.count += 1;
  }
}

const MOST_GUESSES = 30;
const GUESSES_LAST_MS = 60_000;
const MOST_ADDRESSES = 10_000;
const LOOPBACK = /^(127\.\d+\.\d+\.\d+|localhost|\[::1\])$/;

/** The same, with every text in it redacted: in the serialised form a mask could take a quotation mark with it. */
function redactedIn(value: unknown, redact: Redact): unknown {
  if (typeof value === 'string') return redact(value);
  if (Array.isArray(value)) return value.map((each) => redactedIn(each, redact));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, redactedIn(each, redact)]));
}

const CODES: Readonly<Record<number, string>> = {
  403: 'FORBIDDEN',
  413: 'BODY_TOO_LARGE',
  415: 'UNSUPPORTED_MEDIA_TYPE',
  429: 'TOO_MANY_REQUESTS',
};

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
