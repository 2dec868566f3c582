import { describe, expect, test } from '@jest/globals';
import { describeQuota, endOf, maskOf, parseQuota, parseSince, parseTerm, windowEnd, windowStart } from '../src/index.js';

const NOW = Date.parse('2026-03-11T10:30:00Z');

describe('a term', () => {
  test.each([
    ['24h', '2026-03-12T10:30:00Z'],
    ['7d', '2026-03-18T10:30:00Z'],
    ['1d12h', '2026-03-12T22:30:00Z'],
    ['2w', '2026-03-25T10:30:00Z'],
    ['2026-04-01', '2026-04-01T00:00:00Z'],
    ['2026-04-01T12:00:00+02:00', '2026-04-01T10:00:00Z'],
    ['2026-04-01 12:00Z', '2026-04-01T12:00:00Z'],
  ])('%j ends at %s', (text, end) => {
    expect(endOf(parseTerm(text), NOW)).toBe(Date.parse(end));
  });

  test('never ends where it says so', () => {
    expect(endOf(parseTerm(' Never '), NOW)).toBeNull();
  });

  test.each(['', '7', 'd', '0d', '-1d', '2026-02-30', '2026-04-01T12:00:00', '99999999999d', 'tomorrow', '1h; drop'])(
    '%j is none',
    (text) => {
      expect(() => parseTerm(text)).toThrow(expect.objectContaining({ code: 'KEY_INVALID' }));
    },
  );

  test('reaches back as well', () => {
    expect(parseSince('24h', NOW)).toBe(NOW - 86_400_000);
    expect(parseSince('2026-03-01', NOW)).toBe(Date.parse('2026-03-01T00:00:00Z'));
    expect(parseSince('never', NOW)).toBe(0);
  });
});

describe('a quota', () => {
  test.each([
    ['1000 requests per day', { unit: 'requests', limit: 1000, per: 'day' }],
    ['5M tokens/month', { unit: 'tokens', limit: 5_000_000, per: 'month' }],
    ['1.5k tokens an hour', { unit: 'tokens', limit: 1500, per: 'hour' }],
    ['200 requests', { unit: 'requests', limit: 200, per: 'total' }],
    ['1 request a week', { unit: 'requests', limit: 1, per: 'week' }],
  ])('%j', (text, quota) => {
    expect(parseQuota(text)).toEqual(quota);
    expect(parseQuota(describeQuota(parseQuota(text)))).toEqual(quota);
  });

  test.each(['', '0 requests', 'requests', '5 apples', '5 requests per year', '-5 tokens'])('%j is none', (text) => {
    expect(() => parseQuota(text)).toThrow(expect.objectContaining({ code: 'KEY_INVALID' }));
  });

  test.each([
    ['hour', '2026-03-11T10:00:00Z', '2026-03-11T11:00:00Z'],
    ['day', '2026-03-11T00:00:00Z', '2026-03-12T00:00:00Z'],
    ['week', '2026-03-09T00:00:00Z', '2026-03-16T00:00:00Z'],
    ['month', '2026-03-01T00:00:00Z', '2026-04-01T00:00:00Z'],
  ] as const)('per %s has a window from %s to %s', (per, start, end) => {
    expect(windowStart(per, NOW)).toBe(Date.parse(start));
    expect(windowEnd(per, NOW)).toBe(Date.parse(end));
  });

  test('in total never begins anew', () => {
    expect(windowEnd('total', NOW)).toBeUndefined();
  });
});

test('a mask shows little of a long key, less of a shorter one, and nothing of a short one', () => {
  expect(maskOf('sk-me-abcdefghijklmnopqrstuvwxyz')).toBe('sk-me-…wxyz');
  expect(maskOf('sk-abcdefghijkl')).toBe('sk-…kl');
  expect(maskOf('12345678')).toBe('…');
});
