import { afterAll, describe, expect, test } from '@jest/globals';
import { cleanTemporaryDirectories, FACT_NAMES, type Flavour } from '@tokenmirror/testkit';
import { CONTRACT, holdsFor } from './contract.js';
import { World } from './world.js';

afterAll(cleanTemporaryDirectories);

const FLAVOURS: readonly Flavour[] = ['6.9', '7.2'];

describe('the contract suite notices when the emulation leaves a fact out', () => {
  test.concurrent.each(FACT_NAMES)('%s', async (fact) => {
    const clause = CONTRACT.find(({ proves }) => proves === fact);
    const flavour = FLAVOURS.find((one) => clause !== undefined && holdsFor(one)(clause));
    if (clause === undefined || flavour === undefined) throw new Error('no clause proves it');
    const world = await World.create(flavour, [fact]);
    try {
      await expect(clause.run(world)).rejects.toThrow(/^(not so|not within|did not stay so)/);
    } finally {
      await world.destroy();
    }
  });
});
