import * as fs from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { ConfigFile, type ConfigCalls } from '@tokenmirror/workspace';
import { cleanTemporaryDirectories, temporaryDirectory } from '@tokenmirror/testkit';

afterAll(cleanTemporaryDirectories);

const LONG = `api-keys:\n  - k1\n${'# filler\n'.repeat(2000)}debug: true\n`;
const SHORT = 'api-keys:\n  - k1\n';

class Crash extends Error {}

/** Real system calls, of which the nth and all later ones never happen. A write may be cut in the middle first. */
function crashingAt(step: number, shortWrite: boolean): { calls: ConfigCalls; made: () => number } {
  let made = 0;
  const guarded = <F extends (...args: never[]) => unknown>(call: F): F =>
    ((...args: Parameters<F>) => {
      made += 1;
      if (made > step) throw new Crash();
      if (made === step && shortWrite && call === (fs.writeSync as unknown)) {
        const [descriptor, data, , length, position] = args as unknown as [number, Buffer, number, number, number];
        fs.writeSync(descriptor, data, 0, Math.floor(length / 2), position);
        throw new Crash();
      }
      return call(...args);
    }) as F;
  return {
    calls: {
      openSync: guarded(fs.openSync),
      fstatSync: guarded(fs.fstatSync as never),
      writeSync: guarded(fs.writeSync as never),
      fsyncSync: guarded(fs.fsyncSync),
      ftruncateSync: guarded(fs.ftruncateSync),
      closeSync: (descriptor) => {
        fs.closeSync(descriptor);
      },
      readFileSync: guarded(fs.readFileSync as never),
      rmSync: guarded(fs.rmSync),
    },
    made: () => made,
  };
}

describe.each([
  ['longer', SHORT, LONG],
  ['shorter', LONG, SHORT],
  ['of the same length', LONG, LONG.replace('k1', 'k2')],
])('an update to a text that is %s', (_, before, after) => {
  test.each([false, true])(
    'incident 36: ended at any system call (a write cut short: %s), leaves one of the two versions after a restart, and never a prefix',
    async (shortWrite) => {
      for (let step = 1; ; step += 1) {
        const directory = temporaryDirectory('config');
        const path = join(directory, 'config.yaml');
        fs.writeFileSync(path, before);
        const inode = fs.statSync(path).ino;
        const crash = crashingAt(step, shortWrite);
        const finished = await new ConfigFile(path, directory, crash.calls).write(after, before).catch((error: unknown) => {
          if (!(error instanceof Crash) && !((error as Error).cause instanceof Crash)) throw error;
          return 'crashed';
        });
        expect(fs.readFileSync(path, 'utf8').length).toBeGreaterThanOrEqual(Math.min(before.length, after.length));
        expect(fs.readFileSync(path, 'utf8')).toContain('api-keys:\n  - k');
        new ConfigFile(path, directory).recover();
        expect([before, after]).toContain(fs.readFileSync(path, 'utf8').replace(/\n+$/, '\n'));
        expect(fs.statSync(path).ino).toBe(inode);
        expect(fs.existsSync(join(directory, 'config-update.json'))).toBe(false);
        if (finished === true) {
          expect(fs.readFileSync(path, 'utf8')).toBe(after);
          expect(step).toBeGreaterThan(5);
          return;
        }
      }
    },
  );
});

test('a reader that looks all the time never sees a file that was cut', async () => {
  const directory = temporaryDirectory('config');
  const path = join(directory, 'config.yaml');
  fs.writeFileSync(path, SHORT);
  const file = new ConfigFile(path, directory);
  const { Worker } = await import('node:worker_threads');
  const reader = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads'); const fs = require('node:fs');
     let reads = 0, cut = 0, stop = false; parentPort.on('message', () => { stop = true; });
     (function look() { for (let n = 0; n < 50; n++) { const text = fs.readFileSync(workerData, 'utf8'); reads++; if (!text.startsWith('api-keys:\\n  - k1\\n')) cut++; }
       if (stop) parentPort.postMessage({ reads, cut }); else setImmediate(look); })();`,
    { eval: true, workerData: path },
  );
  let now = SHORT;
  for (let n = 0; n < 150; n += 1) {
    const next = n % 2 === 0 ? LONG : SHORT;
    expect(await file.write(next, now)).toBe(true);
    now = next;
  }
  reader.postMessage('stop');
  const seen = await new Promise<{ reads: number; cut: number }>((resolve) => reader.once('message', resolve));
  await reader.terminate();
  expect(seen.reads).toBeGreaterThan(100);
  expect(seen.cut).toBe(0);
});

test('a file that somebody else changed meanwhile is left alone', async () => {
  const directory = temporaryDirectory('config');
  const path = join(directory, 'config.yaml');
  fs.writeFileSync(path, 'other: true\n');
  expect(await new ConfigFile(path, directory).write(LONG, SHORT)).toBe(false);
  expect(fs.readFileSync(path, 'utf8')).toBe('other: true\n');
});

test('after a crash, a file that somebody else has written since is left alone', () => {
  const directory = temporaryDirectory('config');
  const path = join(directory, 'config.yaml');
  fs.writeFileSync(join(directory, 'config-update.json'), JSON.stringify({ format: 1, oldestReader: 1, old: SHORT, new: LONG }));
  fs.writeFileSync(path, 'theirs: true\n');
  new ConfigFile(path, directory).recover();
  expect(fs.readFileSync(path, 'utf8')).toBe('theirs: true\n');
});
