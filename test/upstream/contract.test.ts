import { afterAll, describe, test } from '@jest/globals';
import { cleanTemporaryDirectories, REAL_BINARY_VARIABLE, type Flavour } from '@tokenmirror/testkit';
import { CONTRACT, holdsFor } from './contract.js';
import { World } from './world.js';

/** A real program is of one flavour, which the caller names. */
const real = process.env[REAL_BINARY_VARIABLE];
const flavours: readonly Flavour[] = real === undefined ? ['6.9', '7.2'] : [process.env['CLIPROXYAPI_FLAVOUR'] === '6.9' ? '6.9' : '7.2'];
const withSlow = process.env['TOKENMIRROR_TEST_SLOW'] === '1';
const SLOWEST_MS = 400_000;

afterAll(cleanTemporaryDirectories);

describe.each(flavours)(`${real === undefined ? 'the emulated' : 'the real'} CLIProxyAPI %s`, (flavour) => {
  const clauses = CONTRACT.filter(holdsFor(flavour)).filter(({ slow }) => withSlow || slow !== true);
  test.concurrent.each(clauses.map((clause) => [clause.title, clause] as const))(
    '%s',
    async (_, { run }) => {
      const world = await World.create(flavour);
      try {
        await run(world);
      } finally {
        await world.destroy();
      }
    },
    SLOWEST_MS,
  );
});
