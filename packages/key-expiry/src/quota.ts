import { TokenmirrorError } from '@tokenmirror/core';

export const PERIODS = ['hour', 'day', 'week', 'month', 'total'] as const;
/** `total` never begins anew; the others begin at full hours, days, Mondays and months, UTC. */
export type Period = (typeof PERIODS)[number];

export interface Quota {
  readonly unit: 'requests' | 'tokens';
  readonly limit: number;
  readonly per: Period;
}

/** What was used in a window. */
export interface Use {
  readonly requests: number;
  readonly tokens: number;
}

const SCALES: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, g: 1e9 };
const WRITTEN = /^(\d+(?:\.\d+)?)\s*([kmg]?)\s*(requests?|tokens?)(?:\s*(?:\/|per\s|an?\s|in\s)\s*(hour|day|week|month|total))?$/i;

/** `1000 requests per day`, `5M tokens/month`, `200 requests` in total. @throws TokenmirrorError KEY_INVALID */
export function parseQuota(text: string): Quota {
  const [, amount, scale, unit, per] = WRITTEN.exec(text.trim()) ?? [];
  const limit = Math.floor(Number(amount) * (SCALES[scale?.toLowerCase() ?? ''] ?? NaN));
  if (!Number.isSafeInteger(limit) || limit < 1)
    throw new TokenmirrorError(
      'KEY_INVALID',
      'the quota is not understood',
      'Write "1000 requests per day", "5M tokens/month" (hour, day, week, month), or "200 requests" in total.',
    );
  return {
    unit: unit?.toLowerCase().startsWith('request') === true ? 'requests' : 'tokens',
    limit,
    per: (per?.toLowerCase() ?? 'total') as Period,
  };
}

export function describeQuota({ unit, limit, per }: Quota): string {
  return `${String(limit)} ${unit}${per === 'total' ? ' in total' : ` per ${per}`}`;
}

/** When the window began that an instant lies in; ms since the epoch. */
export function windowStart(per: Period, at: number): number {
  const date = new Date(at);
  const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
  switch (per) {
    case 'hour':
      return Date.UTC(year, month, day, date.getUTCHours());
    case 'day':
      return Date.UTC(year, month, day);
    case 'week':
      return Date.UTC(year, month, day - ((date.getUTCDay() + 6) % 7));
    case 'month':
      return Date.UTC(year, month);
    case 'total':
      return 0;
  }
}

/** When the window ends that an instant lies in; `undefined` where it never does. */
export function windowEnd(per: Period, at: number): number | undefined {
  const start = new Date(windowStart(per, at));
  switch (per) {
    case 'hour':
      return start.getTime() + 3_600_000;
    case 'day':
      return start.getTime() + 86_400_000;
    case 'week':
      return start.getTime() + 7 * 86_400_000;
    case 'month':
      return Date.UTC(start.getUTCFullYear(), start.getUTCMonth() + 1);
    case 'total':
      return undefined;
  }
}
