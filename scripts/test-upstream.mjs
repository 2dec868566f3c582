#!/usr/bin/env node
/**
 * `npm run test:upstream [-- --slow]`: what was measured of CLIProxyAPI, as tests. They run against the emulation, or against a real program:
 * CLIPROXYAPI_BIN=/path/to/binary CLIPROXYAPI_FLAVOUR=7.2 (or 6.9). Facts that take minutes need --slow.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const args = process.argv.slice(2);
const { status } = spawnSync(
  process.execPath,
  [join(import.meta.dirname, 'test.mjs'), 'test/upstream/contract', ...args.filter((word) => word !== '--slow')],
  { stdio: 'inherit', env: { ...process.env, ...(args.includes('--slow') ? { TOKENMIRROR_TEST_SLOW: '1' } : {}) } },
);
process.exit(status ?? 1);
