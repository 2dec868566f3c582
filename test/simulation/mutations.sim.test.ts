import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';

interface Mutation {
  readonly rule: string;
  /** What fails without the rule. */
  readonly caughtBy: { readonly scenario: string } | { readonly seed: number };
}

const ROOT = join(import.meta.dirname, '../..');
const MUTATIONS = JSON.parse(readFileSync(join(import.meta.dirname, 'mutations.json'), 'utf8')) as readonly Mutation[];

describe('with one rule of custody switched off, a schedule fails', () => {
  test.each(MUTATIONS)('$rule', ({ rule, caughtBy }) => {
    const played = 'seed' in caughtBy ? ['--first', String(caughtBy.seed), '--seeds', '1'] : ['--scenario', caughtBy.scenario];
    const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/simulate.mjs', '--mutation', rule, ...played], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    expect({ status, stderr }).toEqual({ status: 1, stderr: '' });
    expect(stdout).toContain('failed');
  });
});
