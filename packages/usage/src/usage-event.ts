import { createHash } from 'node:crypto';
import { z } from 'zod';

/** What one attempt of a request used. */
export interface Tokens {
  readonly input: number;
  readonly output: number;
  readonly reasoning: number;
  /** Read from a cache of the provider; a part of the input. */
  readonly cached: number;
  /** Written to such a cache. */
  readonly cacheCreation: number;
  readonly total: number;
}

/** One attempt of a request, as CLIProxyAPI told of it, without what is nobody's business. */
export interface UsageEvent {
  /** The same for the same record, however often and by whomever it was collected. */
  readonly id: string;
  /** As it was told, to the nanosecond: what tells two events apart in an import. */
  readonly timestamp: string;
  /** The same instant in ms since the epoch. */
  readonly at: number;
  /** The client's key, in clear: never stored like this. */
  readonly apiKey: string;
  /** The account, or the key of a provider, that served it; in clear, never stored like this. */
  readonly account: string;
  readonly authIndex: string;
  readonly model: string;
  /** Empty in the snapshot era, which does not tell. */
  readonly provider: string;
  readonly endpoint: string;
  readonly failed: boolean;
  readonly latencyMs: number;
  readonly tokens: Tokens;
}

const COUNT = z.number().int().nonnegative().catch(0).default(0);
const TOKENS = z
  .object({
    input_tokens: COUNT,
    output_tokens: COUNT,
    reasoning_tokens: COUNT,
    cached_tokens: COUNT,
    cache_read_tokens: COUNT,
    cache_creation_tokens: COUNT,
    total_tokens: z.number().int().nonnegative().optional().catch(undefined),
  })
  .partial();
const COMMON = {
  timestamp: z.string(),
  latency_ms: z.number().catch(0).default(0),
  source: z.string().catch('').default(''),
  auth_index: z.union([z.string(), z.number()]).transform(String).catch('').default(''),
  failed: z.boolean().catch(false).default(false),
};
const RECORD = z.object({
  ...COMMON,
  tokens: TOKENS,
  api_key: z.string().catch('').default(''),
  model: z.string().catch('').default(''),
  provider: z.string().catch('').default(''),
  endpoint: z.string().catch('').default(''),
});
const DETAIL = z.object({ ...COMMON, tokens: TOKENS.default({}) });
const SNAPSHOT = z.object({
  usage: z.object({
    apis: z
      .record(z.string(), z.object({ models: z.record(z.string(), z.object({ details: z.array(z.unknown()).nullish() })).nullish() }))
      .nullish(),
  }),
});

/** A record of the queue. `undefined` for a control message, which has no timestamp and no tokens, and for what is no record. */
export function readRecord(text: string): UsageEvent | undefined {
  const reading = RECORD.safeParse(jsonIn(text));
  if (!reading.success) return undefined;
  const { timestamp, api_key: apiKey, source, auth_index: authIndex, model, provider, endpoint, failed, latency_ms, tokens } = reading.data;
  const at = Date.parse(timestamp);
  if (!Number.isFinite(at)) return undefined;
  const id = hashed('record', canonical(text));
  return {
    id,
    timestamp,
    at,
    apiKey,
    account: source,
    authIndex,
    model,
    provider,
    endpoint,
    failed,
    latencyMs: latency_ms,
    tokens: tokensOf(tokens),
  };
}

/** Everything in an export of the snapshot era, by upstream's own rule of what is the same. `undefined` for what is no export. */
export function readSnapshot(value: unknown): UsageEvent[] | undefined {
  const reading = SNAPSHOT.safeParse(value);
  if (!reading.success) return undefined;
  const events = new Map<string, UsageEvent>();
  for (const [apiKey, { models }] of Object.entries(reading.data.usage.apis ?? {}))
    for (const [model, { details }] of Object.entries(models ?? {}))
      for (const detail of details ?? []) {
        const event = readDetail(apiKey, model, detail);
        if (event !== undefined) events.set(event.id, event);
      }
  return [...events.values()];
}

/** The body of an import, of which upstream takes the details only. */
export function snapshotOf(events: readonly UsageEvent[]): unknown {
  const apis = Object.create(null) as Record<string, { models: Record<string, { details: unknown[] }> }>;
  for (const { apiKey, model, timestamp, latencyMs, account, authIndex, failed, tokens } of events) {
    const models = (apis[apiKey] ??= { models: Object.create(null) as Record<string, { details: unknown[] }> }).models;
    (models[model] ??= { details: [] }).details.push({
      timestamp,
      latency_ms: latencyMs,
      source: account,
      auth_index: authIndex,
      failed,
      tokens: {
        input_tokens: tokens.input,
        output_tokens: tokens.output,
        reasoning_tokens: tokens.reasoning,
        cached_tokens: tokens.cached,
        total_tokens: tokens.total,
      },
    });
  }
  return { version: 1, usage: { apis } };
}

function readDetail(apiKey: string, model: string, value: unknown): UsageEvent | undefined {
  const reading = DETAIL.safeParse(value);
  if (!reading.success) return undefined;
  const { timestamp, source, auth_index: authIndex, failed, latency_ms, tokens: written } = reading.data;
  const at = Date.parse(timestamp);
  if (!Number.isFinite(at)) return undefined;
  const tokens = tokensOf(written);
  const counts = [tokens.input, tokens.output, tokens.reasoning, tokens.cached, tokens.total];
  const id = hashed('detail', JSON.stringify([apiKey, model, nanoseconds(timestamp), source, authIndex, failed, ...counts]));
  return {
    id,
    timestamp,
    at,
    apiKey,
    account: source,
    authIndex,
    model,
    provider: '',
    endpoint: '',
    failed,
    latencyMs: latency_ms,
    tokens,
  };
}

function tokensOf(tokens: z.infer<typeof TOKENS>): Tokens {
  const { input_tokens: input = 0, output_tokens: output = 0, reasoning_tokens: reasoning = 0, cached_tokens: cached = 0 } = tokens;
  const { cache_read_tokens: read = 0, cache_creation_tokens: cacheCreation = 0, total_tokens: total = input + output } = tokens;
  return { input, output, reasoning, cached: Math.max(cached, read), cacheCreation, total };
}

/** The instant in UTC, to the nanosecond, as text: a number has not the digits. */
function nanoseconds(timestamp: string): string {
  const fraction = (/\.(\d+)/.exec(timestamp)?.[1] ?? '').padEnd(9, '0').slice(0, 9);
  return `${String(Math.floor(Date.parse(timestamp.replace(/\.\d+/, '')) / 1000))}.${fraction}`;
}

/** HTTP hands the same record out with its keys in another order, or with other blanks, than RESP. */
function canonical(text: string): string {
  const sorted = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(sorted);
    if (typeof value !== 'object' || value === null) return value;
    return Object.fromEntries(
      Object.entries(value)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, each]) => [name, sorted(each)]),
    );
  };
  return JSON.stringify(sorted(jsonIn(text)));
}

function hashed(kind: string, text: string): string {
  return createHash('sha256').update(`${kind}\n${text}`).digest('base64url');
}

/** `undefined` for what is no JSON. */
export function jsonIn(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
