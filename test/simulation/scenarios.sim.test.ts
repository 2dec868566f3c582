import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, expect, test } from '@jest/globals';
import { SCENARIOS } from './scenarios.js';

const ROOT = join(import.meta.dirname, '../..');
const ALL_MS = 300_000;

/** What became of each, by its name. Bundled they are played several times as fast as in jest. */
let outcomes: ReadonlyMap<string, string>;

beforeAll(() => {
  const { stdout, stderr } = spawnSync(process.execPath, ['scripts/simulate.mjs', '--scenario', 'all'], { cwd: ROOT, encoding: 'utf8' });
  if (stderr !== '') throw new Error(stderr);
  outcomes = new Map(
    stdout.split('\n').flatMap((line) => {
      const name = SCENARIOS.map((scenario) => scenario.name).find((each) => line.startsWith(`${each}: `));
      return name === undefined ? [] : [[name, line.slice(name.length + 2)]];
    }),
  );
}, ALL_MS);

test.each(SCENARIOS)('$name', ({ name }) => {
  expect(outcomes.get(name)).toBe('ok');
});
