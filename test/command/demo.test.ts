import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

const ROOT = join(import.meta.dirname, '../..');

test.each([
  ['replication', 'everything is equal everywhere'],
  ['custody', '0 refresh tokens used twice'],
])('the demo of %s comes to its end', (name, last) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/demo.mjs', name], { cwd: ROOT, encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toContain(last);
});
