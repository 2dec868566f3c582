import { afterAll, describe, expect, test } from '@jest/globals';
import { cleanTemporaryDirectories } from '@tokenmirror/testkit';
import type { StoreKind } from '../store-places.js';
import { INCIDENTS } from './incidents.js';
import { play } from './scenario.js';

/** Defines every incident as a test on one kind of store. */
export function playIncidents(store: StoreKind): void {
  afterAll(cleanTemporaryDirectories);

  describe(`on the ${store} store`, () => {
    test.each(INCIDENTS.map((scenario) => [`incident ${String(scenario.incident)}: ${scenario.title}`, scenario] as const))(
      '%s',
      async (_, scenario) => {
        const held = await play(scenario, store);
        for (const place of Object.keys(held)) expect({ [place]: held[place] }).toEqual({ [place]: scenario.everywhere });
      },
    );
  });
}
