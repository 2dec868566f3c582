import type {} from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import { type ErrorCode, TokenmirrorError } from '@tokenmirror/core';
import { AUDIT_VIEW, auditView, KEY_VIEW, viewOf } from './key-view.js';
import type { KeyKeeper } from './key-keeper.js';
import { FILTERS, type Filter, type KeyRegistry } from './key-registry.js';
import type { SyncOutcome } from './key-sync.js';
import { parseQuota } from './quota.js';
import { parseSince, parseTerm, type Term } from './term.js';

/** What the routes work on, once it is there. @throws TokenmirrorError STORE_UNREACHABLE before */
export interface KeyRoutesParts {
  readonly registry: () => KeyRegistry;
  readonly keeper: () => KeyKeeper;
  /** What the keys of an owner used; fails where usage is not collected. */
  readonly usage: (email: string, since: number) => Promise<unknown>;
  readonly now: () => number;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The answer holds a key that was just made, in clear. */
    readonly showsKey?: boolean;
  }
}

const TAGS = ['keys'];
const NOTE = { type: 'string', maxLength: 1000 } as const;
const REFERENCE = { type: 'string', minLength: 1, maxLength: 256, description: 'id, mask, or the key itself' } as const;
const TERM = { type: 'string', maxLength: 64, description: '24h, 7d, 2026-03-01, an RFC 3339 instant, or never' } as const;
const ERROR = {
  type: 'object',
  properties: {
    error: {
      type: 'object',
      properties: { code: { type: 'string' }, message: { type: 'string' }, remedy: { type: 'string' } },
      required: ['code', 'message'],
    },
  },
  required: ['error'],
} as const;
const ERRORS = { '4xx': ERROR, '5xx': ERROR } as const;
const TARGETS = {
  type: 'array',
  description: 'How the change reached each CLIProxyAPI',
  items: {
    type: 'object',
    properties: {
      target: { type: 'string' },
      status: { type: 'string', enum: ['synced', 'failed', 'idle', 'waiting'] },
      reason: { type: 'string' },
    },
    required: ['target', 'status'],
  },
} as const;
const DONE = {
  type: 'object',
  properties: { ok: { type: 'boolean' }, item: KEY_VIEW, targets: TARGETS },
  required: ['ok', 'targets'],
} as const;
const STATUS_OF: Readonly<Partial<Record<ErrorCode, number>>> = { KEY_INVALID: 400, KEY_UNKNOWN: 404, KEY_REFUSED: 409 };
const ACTOR = 'http';

interface TermBody {
  readonly ttl?: string;
  readonly expires_at?: string | null;
}

/** The part of the HTTP API that is about keys: `/keys` and what is below, `/sync_now`, `/account/query`, `/recharge/request`. */
export function keyRoutes(app: FastifyInstance, { registry, keeper, usage, now }: KeyRoutesParts): void {
  // The change is made, and its answer may hold a key that is shown this once: it is answered whatever becomes of the sync.
  const synced = async (): Promise<unknown> => {
    try {
      return (await keeper().syncNow()).map(targetOf);
    } catch (error) {
      return [{ target: 'all', status: 'failed', reason: error instanceof TokenmirrorError ? error.message : 'the sync failed' }];
    }
  };

  app.get<{ Querystring: { filter: Filter; owner?: string; offset: number; limit: number } }>(
    '/keys',
    {
      schema: {
        tags: TAGS,
        summary: 'The keys, masked, a page at a time',
        querystring: {
          type: 'object',
          properties: {
            filter: { type: 'string', enum: FILTERS, default: 'all' },
            owner: { type: 'string', maxLength: 256 },
            offset: { type: 'integer', minimum: 0, default: 0 },
            limit: { type: 'integer', minimum: 1, maximum: 500, default: 100 },
          },
        },
        response: {
          200: {
            type: 'object',
            properties: { items: { type: 'array', items: KEY_VIEW }, total: { type: 'integer' } },
            required: ['items', 'total'],
          },
          ...ERRORS,
        },
      },
    },
    async ({ query }) => {
      const { items, total } = await registry().list(query);
      return { items: items.map((item) => viewOf(item, now())), total };
    },
  );

  app.post<{
    Body: { key?: string; owner_email?: string; note?: string; labels?: string[]; quota?: string } & TermBody;
  }>(
    '/keys',
    {
      config: { showsKey: true },
      schema: {
        tags: TAGS,
        summary: 'Registers a key; without one it is made, and shown this once',
        body: {
          type: 'object',
          additionalProperties: false,
          properties: {
            key: { type: 'string', maxLength: 256 },
            owner_email: { type: 'string', maxLength: 256 },
            ttl: TERM,
            expires_at: { ...TERM, nullable: true },
            note: NOTE,
            labels: { type: 'array', maxItems: 50, items: { type: 'string', minLength: 1, maxLength: 100 } },
            quota: { type: 'string', maxLength: 100, description: '1000 requests per day, 5M tokens/month' },
          },
        },
        response: {
          201: {
            type: 'object',
            properties: { ok: { type: 'boolean' }, key: { type: 'string' }, item: KEY_VIEW, targets: TARGETS },
            required: ['ok', 'key', 'item', 'targets'],
          },
          ...ERRORS,
        },
      },
    },
    async ({ body }, reply) => {
      const { key, record } = await registry().add(ACTOR, {
        ...(body.key === undefined ? {} : { key: body.key }),
        owner: body.owner_email ?? '',
        term: termOf(body) ?? { kind: 'never' },
        note: body.note ?? '',
        labels: body.labels ?? [],
        quota: body.quota === undefined ? null : parseQuota(body.quota),
      });
      return reply.code(201).send({ ok: true, key, item: viewOf(record, now()), targets: await synced() });
    },
  );

  app.delete<{ Querystring: { key?: string }; Body: { key?: string } | undefined }>(
    '/keys',
    {
      schema: {
        tags: TAGS,
        summary: 'Deletes a key; it is named in the query or, where it should not stand in a URL, in the body',
        querystring: { type: 'object', properties: { key: REFERENCE } },
        body: { type: 'object', nullable: true, properties: { key: REFERENCE } },
        response: { 200: DONE, ...ERRORS },
      },
    },
    async ({ query, body }) => {
      const record = await registry().delete(ACTOR, mustBeGiven(body?.key ?? query.key));
      return { ok: true, item: viewOf(record, now()), targets: await synced() };
    },
  );

  app.patch<{ Body: { key: string; status: 'active' | 'disabled' } }>(
    '/keys/status',
    {
      schema: {
        tags: TAGS,
        summary: 'Enables or disables a key',
        body: {
          type: 'object',
          additionalProperties: false,
          properties: { key: REFERENCE, status: { type: 'string', enum: ['active', 'disabled'] } },
          required: ['key', 'status'],
        },
        response: { 200: DONE, ...ERRORS },
      },
    },
    async ({ body }) => {
      const record = await registry().setStatus(ACTOR, body.key, body.status);
      return { ok: true, item: viewOf(record, now()), targets: await synced() };
    },
  );

  app.patch<{ Body: { key: string; extend?: boolean } & TermBody }>(
    '/keys/expiry',
    {
      schema: {
        tags: TAGS,
        summary: 'Sets when a key expires; with `extend` the ttl is added to what is left',
        body: {
          type: 'object',
          additionalProperties: false,
          properties: { key: REFERENCE, ttl: TERM, expires_at: { ...TERM, nullable: true }, extend: { type: 'boolean' } },
          required: ['key'],
        },
        response: { 200: DONE, ...ERRORS },
      },
    },
    async ({ body }) => {
      const term = termOf(body);
      if (term === undefined) throw new TokenmirrorError('KEY_INVALID', 'no term was given', 'Give ttl or expires_at.');
      const record = await registry().setTerm(ACTOR, body.key, term, body.extend === true ? 'extend' : 'set');
      return { ok: true, item: viewOf(record, now()), targets: await synced() };
    },
  );

  app.get<{ Querystring: { key?: string; offset: number; limit: number } }>(
    '/keys/audit',
    {
      schema: {
        tags: TAGS,
        summary: 'Who did what to which key, newest first',
        querystring: {
          type: 'object',
          properties: {
            key: REFERENCE,
            offset: { type: 'integer', minimum: 0, default: 0 },
            limit: { type: 'integer', minimum: 1, maximum: 500, default: 100 },
          },
        },
        response: {
          200: {
            type: 'object',
            properties: { items: { type: 'array', items: AUDIT_VIEW }, total: { type: 'integer' } },
            required: ['items', 'total'],
          },
          ...ERRORS,
        },
      },
    },
    async ({ query: { key, offset, limit } }) => {
      const of = key === undefined ? {} : { keyId: (await registry().get(key)).id };
      const { items, total } = await registry().audit.list({ ...of, offset, limit });
      return { items: items.map(auditView), total };
    },
  );

  app.post(
    '/sync_now',
    {
      schema: {
        tags: TAGS,
        summary: 'Brings the keys of every CLIProxyAPI up to date at once',
        response: {
          200: { type: 'object', properties: { ok: { type: 'boolean' }, targets: TARGETS }, required: ['ok', 'targets'] },
          ...ERRORS,
        },
      },
    },
    async () => {
      const outcomes = await keeper().syncNow();
      return { ok: outcomes.every(({ status }) => status !== 'failed'), targets: outcomes.map(targetOf) };
    },
  );

  app.get<{ Querystring: { email: string; since: string } }>(
    '/account/query',
    {
      schema: {
        tags: TAGS,
        summary: 'Everything of one owner',
        querystring: {
          type: 'object',
          properties: { email: { type: 'string', minLength: 1, maxLength: 256 }, since: { ...TERM, default: '7d' } },
          required: ['email'],
        },
        response: {
          200: {
            type: 'object',
            properties: {
              since: { type: 'string', format: 'date-time' },
              item: {
                type: 'object',
                properties: {
                  email: { type: 'string' },
                  keys: { type: 'array', items: KEY_VIEW },
                  usage: { type: 'object', additionalProperties: true, description: 'what they used; absent where usage is not collected' },
                },
                required: ['email', 'keys'],
              },
            },
            required: ['since', 'item'],
          },
          ...ERRORS,
        },
      },
    },
    async ({ query }) => {
      const since = parseSince(query.since, now());
      const { items } = await registry().list({ owner: query.email });
      const used = await usage(query.email, since).catch(() => undefined);
      return {
        since: new Date(since).toISOString(),
        item: {
          ...(used === undefined ? {} : { usage: used }),
          email: query.email.toLowerCase(),
          keys: items.map((item) => viewOf(item, now())),
        },
      };
    },
  );

  app.post<{ Body: { email: string; plan?: string; plan_id?: string; note?: string } }>(
    '/recharge/request',
    {
      schema: {
        tags: TAGS,
        summary: 'Tells the operator that somebody asks for more',
        body: {
          type: 'object',
          additionalProperties: false,
          properties: {
            email: { type: 'string', maxLength: 256 },
            plan: NOTE,
            plan_id: NOTE,
            note: NOTE,
          },
          required: ['email'],
        },
        response: { 202: { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'] }, ...ERRORS },
      },
    },
    async ({ body }, reply) => {
      const note = [body.plan_id ?? body.plan, body.note].filter((text) => text !== undefined && text !== '').join(', ');
      await keeper().request(ACTOR, body.email, note);
      return reply.code(202).send({ ok: true });
    },
  );
}

/** Which status of HTTP says what an error of ours says. */
export function httpStatusOf({ code }: TokenmirrorError): number {
  return STATUS_OF[code] ?? 503;
}

function termOf({ ttl, expires_at: expiresAt }: TermBody): Term | undefined {
  const written = ttl ?? expiresAt;
  return written === undefined ? undefined : written === null ? { kind: 'never' } : parseTerm(written);
}

function mustBeGiven(key: string | undefined): string {
  if (key !== undefined) return key;
  throw new TokenmirrorError('KEY_INVALID', 'no key was named', 'Give its id as key.');
}

function targetOf(outcome: SyncOutcome & { readonly target: string }): Readonly<Record<string, string>> {
  const { target, status } = outcome;
  return outcome.status === 'failed' ? { target, status, reason: outcome.reason } : { target, status };
}
