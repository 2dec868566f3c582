import { parse } from 'yaml';
import { z } from 'zod';
import { TokenmirrorError } from '@tokenmirror/core';
import type { Sums } from './schema.js';

const PRICE = z.strictObject({
  /** `*` stands for anything. */
  model: z.string().min(1),
  input: z.number().nonnegative(),
  output: z.number().nonnegative(),
  cached: z.number().nonnegative().optional(),
  cache_creation: z.number().nonnegative().optional(),
});
const TABLE = z.strictObject({ currency: z.string().default('USD'), prices: z.array(PRICE) });

/** What a million tokens cost, by model; the first entry that fits counts. */
export type PriceTable = z.infer<typeof TABLE>;

/** @throws TokenmirrorError OPTION_INVALID */
export function readPrices(text: string, where: string): PriceTable {
  let value: unknown;
  try {
    value = parse(text);
  } catch {
    value = undefined;
  }
  const reading = TABLE.safeParse(value);
  if (reading.success) return reading.data;
  const [issue] = reading.error.issues;
  throw new TokenmirrorError(
    'OPTION_INVALID',
    `the price table ${where} cannot be used${issue === undefined ? '' : ` (${issue.path.join('.')}: ${issue.message})`}`,
    'Write it like docs/usage.md shows: prices per million tokens, by model.',
  );
}

/** An estimate; `undefined` for a model without a price. What was read from a cache is a part of the input and costs less. */
export function costOf(
  model: string,
  { input, output, cached, cache_creation: creation }: Sums,
  { prices }: PriceTable,
): number | undefined {
  const price = prices.find((each) => matches(each.model, model));
  if (price === undefined) return undefined;
  const fresh = Math.max(0, input - cached);
  const sum = fresh * price.input + output * price.output + cached * (price.cached ?? price.input) + creation * (price.cache_creation ?? 0);
  return sum / 1e6;
}

function matches(pattern: string, model: string): boolean {
  const escaped = pattern.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${escaped.join('.*')}$`, 'i').test(model);
}
