import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, describe, test } from '@jest/globals';
import { describeConformance } from '@tokenmirror/store-conformance';
import { FilesystemStore } from '@tokenmirror/store-filesystem';
import { cleanTemporaryDirectories, temporaryDirectory } from '@tokenmirror/testkit';

afterAll(cleanTemporaryDirectories);

describeConformance(
  {
    name: 'the filesystem store',
    create: () => {
      const directory = temporaryDirectory('store');
      const identity = join(directory, '.tokenmirror', 'cluster.json');
      return Promise.resolve({
        connect: () => new FilesystemStore({ directory }),
        foreign: {
          write: async (name, content) => {
            await mkdir(dirname(join(directory, name)), { recursive: true });
            await writeFile(join(directory, name), content);
          },
          remove: (name) => rm(join(directory, name)),
          removalShows: 'put back' as const,
        },
        loseIdentity: () => {
          rmSync(identity);
          return Promise.resolve();
        },
        setFormat: (format, oldestReader) => {
          if (!existsSync(identity)) throw new Error('the store was never opened');
          const stored = JSON.parse(readFileSync(identity, 'utf8')) as object;
          writeFileSync(identity, JSON.stringify({ ...stored, format, oldestReader }));
          return Promise.resolve();
        },
        destroy: () => rm(directory, { recursive: true, force: true }),
      });
    },
  },
  { describe, test },
);
