import type {} from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import { parseSince } from '@tokenmirror/key-expiry';
import { GROUPS, type Group, type Questions } from './questions.js';
import type { CollectorReport } from './usage-collector.js';
import { TIMELINE_VIEW, timelineView, USAGE_VIEW, usageView } from './usage-view.js';

export interface UsageRoutesParts {
  /** @throws TokenmirrorError STORE_UNREACHABLE while the ledger is not open */
  readonly questions: () => Questions;
  /** Reads everything that can be had now. */
  readonly collect: () => Promise<readonly CollectorReport[]>;
  readonly now: () => number;
}

const TAGS = ['usage'];
const SINCE = { type: 'string', maxLength: 64, default: '24h', description: '24h, 7d, any duration, or an instant' } as const;
const AT = { type: 'string', format: 'date-time' } as const;

/** The part of the HTTP API that answers questions about usage. */
export function usageRoutes(app: FastifyInstance, { questions, collect, now }: UsageRoutesParts): void {
  const since = (text: string): { readonly at: number; readonly said: string } => {
    const at = parseSince(text, now());
    return { at, said: new Date(at).toISOString() };
  };

  app.get<{ Querystring: { since: string; by: Group; limit: number } }>(
    '/usage/top',
    {
      schema: {
        tags: TAGS,
        summary: 'Who used most, by tokens',
        querystring: {
          type: 'object',
          properties: {
            since: SINCE,
            by: { type: 'string', enum: GROUPS, default: 'key' },
            limit: { type: 'integer', minimum: 1, maximum: 500, default: 20 },
          },
        },
        response: {
          200: {
            type: 'object',
            properties: { since: AT, currency: { type: 'string' }, items: { type: 'array', items: USAGE_VIEW } },
            required: ['since', 'items'],
          },
        },
      },
    },
    async ({ query }) => {
      const { at, said } = since(query.since);
      const { currency } = questions();
      return {
        since: said,
        ...(currency === undefined ? {} : { currency }),
        items: (await questions().top(query.by, at, query.limit)).map(usageView),
      };
    },
  );

  app.get<{ Querystring: { key: string; since: string } }>(
    '/usage/key',
    {
      schema: {
        tags: TAGS,
        summary: 'What one key used',
        querystring: {
          type: 'object',
          properties: { key: { type: 'string', minLength: 1, maxLength: 256 }, since: SINCE },
          required: ['key'],
        },
        response: { 200: { type: 'object', properties: { since: AT, item: USAGE_VIEW }, required: ['since', 'item'] } },
      },
    },
    async ({ query }) => {
      const { at, said } = since(query.since);
      return { since: said, item: usageView(await questions().key(query.key, at)) };
    },
  );

  app.get<{ Querystring: { since: string; by: 'hour' | 'day'; key?: string } }>(
    '/usage/timeline',
    {
      schema: {
        tags: TAGS,
        summary: 'Usage by hour or day, UTC',
        querystring: {
          type: 'object',
          properties: {
            since: SINCE,
            by: { type: 'string', enum: ['hour', 'day'], default: 'hour' },
            key: { type: 'string', minLength: 1, maxLength: 256, description: 'of one key only' },
          },
        },
        response: {
          200: { type: 'object', properties: { since: AT, items: { type: 'array', items: TIMELINE_VIEW } }, required: ['since', 'items'] },
        },
      },
    },
    async ({ query }) => {
      const { at, said } = since(query.since);
      return { since: said, items: (await questions().timeline(at, query.by, query.key)).map(timelineView) };
    },
  );

  app.post(
    '/usage/sync_now',
    {
      schema: {
        tags: TAGS,
        summary: 'Collects at once what every CLIProxyAPI has to tell',
        response: {
          200: {
            type: 'object',
            properties: {
              ok: { type: 'boolean' },
              targets: {
                type: 'array',
                items: {
                  type: 'object',
                  properties: {
                    origin: { type: 'string' },
                    collected: { type: 'integer', description: 'since the daemon began' },
                    problem: { type: 'string' },
                  },
                  required: ['origin', 'collected'],
                },
              },
            },
            required: ['ok', 'targets'],
          },
        },
      },
    },
    async () => {
      const reports = await collect();
      return {
        ok: reports.every(({ problem }) => problem === undefined),
        targets: reports.map(({ origin, collected, problem }) => ({
          origin,
          collected,
          ...(problem === undefined ? {} : { problem: problem.reason }),
        })),
      };
    },
  );
}
