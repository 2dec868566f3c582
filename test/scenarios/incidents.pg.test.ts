import { afterAll, describe, expect, test } from '@jest/globals';
import { cleanTemporaryDirectories } from '@tokenmirror/testkit';
import { INCIDENTS } from './incidents.js';
import { play, STORES } from './scenario.js';

afterAll(cleanTemporaryDirectories);

describe.each(Object.keys(STORES))('on the %s store', (store) => {
  test.each(INCIDENTS.map((scenario) => [`incident ${String(scenario.incident)}: ${scenario.title}`, scenario] as const))(
    '%s',
    async (_, scenario) => {
      const held = await play(scenario, store);
      for (const place of Object.keys(held)) expect({ [place]: held[place] }).toEqual({ [place]: scenario.everywhere });
    },
  );
});
