import { afterAll, describe, expect, test } from '@jest/globals';
import { cleanTemporaryDirectories } from '@tokenmirror/testkit';
import type { StoreKind } from '../store-places.js';
import { INCIDENTS } from './incidents.js';
import { MIRROR_INCIDENTS } from './mirror-incidents.js';
import { play } from './scenario.js';

/** Defines every incident as a test on an authority and a mirror of two kinds. */
export function playIncidents(authority: StoreKind, mirror: StoreKind): void {
  afterAll(cleanTemporaryDirectories);

  describe(`${authority} mirrored to ${mirror}`, () => {
    test.each(
      [...INCIDENTS, ...MIRROR_INCIDENTS].map(
        (scenario) => [`incident ${String(scenario.incident)}: ${scenario.title}`, scenario] as const,
      ),
    )('%s', async (_, scenario) => {
      const held = await play(scenario, authority, mirror);
      for (const place of Object.keys(held)) expect({ [place]: held[place] }).toEqual({ [place]: scenario.everywhere });
    });
  });
}
