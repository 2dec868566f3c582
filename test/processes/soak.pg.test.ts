import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, expect, test } from '@jest/globals';
import { cleanTemporaryDirectories, credential, DaemonProcess, temporaryDirectory, until } from '@tokenmirror/testkit';
import { STORE_PLACES } from '../store-places.js';

/** Without it a short run; half an hour is 1800. */
const SECONDS = Number(process.env['TOKENMIRROR_TEST_SOAK_SECONDS'] ?? 20);
const CHANGES_A_SECOND = 50;
const CREDENTIALS = 100;
const GROWTH_MB = 40;

afterAll(cleanTemporaryDirectories);

interface Sample {
  readonly rssMb: number;
  readonly handles: number;
}

function sampleOf(pid: number): Sample {
  const rss = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${String(pid)}/status`, 'utf8'))?.[1];
  return { rssMb: Number(rss) / 1024, handles: readdirSync(`/proc/${String(pid)}/fd`).length };
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;

(process.platform === 'linux' ? test : test.skip)(
  'memory stays flat and no file handle leaks under changes without an end',
  async () => {
    const place = await STORE_PLACES.postgres();
    const daemon = new DaemonProcess(temporaryDirectory('soak'), ['--custody', 'off'], place.environment);
    const name = (n: number): string => `claude-${String(n % CREDENTIALS)}@example.com.json`;
    try {
      for (let n = 0; n < CREDENTIALS; n += 1) writeFileSync(join(daemon.authDir, name(n)), credential());
      await daemon.start();
      await until('everything is stored', async () => (await place.documents()).size === CREDENTIALS);
      const samples: Sample[] = [];
      const end = performance.now() + SECONDS * 1000;
      let last = '';
      for (let n = 0; performance.now() < end; n += 1) {
        last = credential();
        writeFileSync(join(daemon.authDir, name(n)), last);
        if (n % CHANGES_A_SECOND === 0) samples.push(sampleOf(daemon.pid));
        await delay(1000 / CHANGES_A_SECOND);
      }
      const third = Math.floor(samples.length / 3);
      const [early, late] = [samples.slice(third, 2 * third), samples.slice(2 * third)];
      const token = String((JSON.parse(last) as Record<string, unknown>)['access_token']);
      await until('the last change is stored', async () => JSON.stringify([...(await place.documents())]).includes(token));
      expect(median(late.map(({ rssMb }) => rssMb)) - median(early.map(({ rssMb }) => rssMb))).toBeLessThan(GROWTH_MB);
      expect(Math.max(...late.map(({ handles }) => handles))).toBeLessThanOrEqual(Math.max(...early.map(({ handles }) => handles)) + 5);
    } finally {
      await daemon.kill();
      await place.destroy();
    }
  },
  SECONDS * 1000 + 180_000,
);
