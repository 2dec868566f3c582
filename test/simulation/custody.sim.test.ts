import { describe, expect, test } from '@jest/globals';
import { play } from './play.js';

/** How many random schedules belong to every test run. `npm run simulate` plays any number. */
const SCHEDULES = 8;
/** How long things go wrong in each, in virtual ms. */
const STORM_MS = 45 * 60_000;

describe('custody, in random schedules', () => {
  test.each(Array.from({ length: SCHEDULES }, (_, n) => 1000 + n))('seed %d', async (seed) => {
    expect((await play(seed, { storm: STORM_MS })).failures).toEqual([]);
  });

  test('a seed replays exactly', async () => {
    const trace = async (): Promise<string[]> => {
      const lines: string[] = [];
      await play(7, { trace: (line) => lines.push(line), storm: 300_000 });
      return lines;
    };
    const first = await trace();
    expect(first.length).toBeGreaterThan(100);
    expect(await trace()).toEqual(first);
  });
});
