import { describe, expect, test } from '@jest/globals';
import { play } from './play.js';

/** How many random schedules belong to every test run. `npm run simulate` plays any number. */
const SCHEDULES = 24;

/** Schedules in which an earlier version broke a rule, and what it was. */
const FOUND: readonly (readonly [seed: number, what: string])[] = [
  [4, 'a token was closed as spent under a twin that still held it'],
  [12, 'a visit forgot all its claims when one of them was gone'],
  [20, 'a token was closed as spent because a login of somebody else took its place'],
  [32, 'a claim that was still being taken counted as taken'],
  [84, 'a grant that lost against a later login was left whole'],
];

describe('custody, in random schedules', () => {
  test.each(Array.from({ length: SCHEDULES }, (_, n) => 1000 + n))('seed %d', async (seed) => {
    expect((await play(seed)).failures).toEqual([]);
  });

  test.each(FOUND)('seed %d, in which %s', async (seed) => {
    expect((await play(seed)).failures).toEqual([]);
  });

  test('a seed replays exactly', async () => {
    const trace = async (): Promise<string[]> => {
      const lines: string[] = [];
      await play(7, { trace: (line) => lines.push(line), storm: 600_000 });
      return lines;
    };
    const first = await trace();
    expect(first.length).toBeGreaterThan(100);
    expect(await trace()).toEqual(first);
  });
});
