import type { TimelinePoint, UsageLine } from './questions.js';

/** A line of an answer as it is shown to other programs. */
export interface UsageView {
  readonly name: string;
  readonly key_id?: string;
  readonly owner_email?: string;
  readonly requests: number;
  readonly failed: number;
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly reasoning_tokens: number;
  readonly cached_tokens: number;
  readonly cache_creation_tokens: number;
  readonly total_tokens: number;
  /** An estimate. */
  readonly estimated_cost?: number;
}

const COUNT = { type: 'integer' } as const;
const COUNTS = {
  requests: COUNT,
  failed: COUNT,
  input_tokens: COUNT,
  output_tokens: COUNT,
  reasoning_tokens: COUNT,
  cached_tokens: COUNT,
  cache_creation_tokens: COUNT,
  total_tokens: COUNT,
} as const;

/** The same, as JSON Schema. */
export const USAGE_VIEW = {
  type: 'object',
  properties: {
    name: { type: 'string' },
    key_id: { type: 'string' },
    owner_email: { type: 'string' },
    ...COUNTS,
    estimated_cost: { type: 'number', description: 'an estimate, by the price table of the operator' },
  },
  required: ['name', 'requests', 'failed', 'total_tokens'],
} as const;

export const TIMELINE_VIEW = {
  type: 'object',
  properties: { start: { type: 'string', format: 'date-time' }, ...COUNTS },
  required: ['start', 'requests', 'total_tokens'],
} as const;

export function usageView({ name, keyId, owner, cost, ...sums }: UsageLine): UsageView {
  return {
    name,
    ...(keyId === undefined ? {} : { key_id: keyId }),
    ...(owner === undefined ? {} : { owner_email: owner }),
    ...countsOf(sums),
    ...(cost === undefined ? {} : { estimated_cost: Math.round(cost * 10_000) / 10_000 }),
  };
}

export function timelineView({ start, ...sums }: TimelinePoint) {
  return { start: new Date(start).toISOString(), ...countsOf(sums) };
}

function countsOf(sums: Omit<TimelinePoint, 'start'>) {
  return {
    requests: sums.requests,
    failed: sums.failed,
    input_tokens: sums.input,
    output_tokens: sums.output,
    reasoning_tokens: sums.reasoning,
    cached_tokens: sums.cached,
    cache_creation_tokens: sums.cache_creation,
    total_tokens: sums.total,
  };
}
