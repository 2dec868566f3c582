import { appendFileSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, expect, test } from '@jest/globals';
import { silentLog, type Clock, type DocumentKey } from '@tokenmirror/core';
import { cleanTemporaryDirectories, temporaryDirectory, until } from '@tokenmirror/testkit';
import { DirectoryWorkspace } from '@tokenmirror/workspace';

const CLOCK: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms).unref();
    return () => {
      clearTimeout(timer);
    };
  },
};
/** Longer than a directory is left alone for after a restart of the watch. */
const QUIET_MS = 300;

let authDir: string;
let configFile: string;
let hints: (DocumentKey | undefined)[];
let stop: () => Promise<void>;

beforeEach(async () => {
  const place = temporaryDirectory('watched');
  authDir = join(place, '.auths');
  configFile = join(place, 'config', 'config.yaml');
  for (const directory of [authDir, join(authDir, 'team'), join(place, 'config')]) mkdirSync(directory);
  for (const name of ['a.json', 'team/b.json']) writeFileSync(join(authDir, name), '{}');
  await watch();
});
afterEach(() => stop());
afterAll(cleanTemporaryDirectories);

async function watch(): Promise<void> {
  const locations = { authDir, configFile, stateDir: temporaryDirectory('state') };
  const workspace = new DirectoryWorkspace(locations, CLOCK, silentLog, 10_000);
  hints = [];
  stop = await workspace.watch((key) => hints.push(key));
}

const isHinted = (key: string | undefined) => () => hints.includes(key as DocumentKey);

/** What is told of, until it is quiet for a moment. */
async function told(): Promise<(DocumentKey | undefined)[]> {
  await delay(QUIET_MS);
  return [...new Set(hints.splice(0))];
}

const put = (name: string): void => {
  writeFileSync(join(authDir, name), '{}');
};
const append = (path: string): void => {
  appendFileSync(path, '\n');
};

test.each([
  [
    'a new file',
    'auths/new.json',
    () => {
      put('new.json');
    },
  ],
  [
    'a file that is written in place',
    'auths/a.json',
    () => {
      append(join(authDir, 'a.json'));
    },
  ],
  [
    'a file that another one replaces',
    'auths/a.json',
    () => {
      put('.a.json.tmp');
      renameSync(join(authDir, '.a.json.tmp'), join(authDir, 'a.json'));
    },
  ],
  [
    'a file that is deleted',
    'auths/a.json',
    () => {
      rmSync(join(authDir, 'a.json'));
    },
  ],
  [
    'a file in a directory inside',
    'auths/team/b.json',
    () => {
      append(join(authDir, 'team', 'b.json'));
    },
  ],
  [
    'a config that was not there',
    'config/config.yaml',
    () => {
      append(configFile);
    },
  ],
])('tells of %s, and of nothing else', async (_, key, change) => {
  change();
  await until('it is told', isHinted(key));
  expect(await told()).toEqual([key]);
});

test('tells of each of two changes that follow one another at once', async () => {
  appendFileSync(join(authDir, 'a.json'), '\n');
  await until('the first is told', isHinted('auths/a.json'));
  hints = [];
  appendFileSync(join(authDir, 'a.json'), '\n');
  await until('the second, too', isHinted('auths/a.json'));
});

test('follows a config that is replaced, and written in place again', async () => {
  await stop();
  writeFileSync(configFile, 'port: 1\n');
  await watch();
  for (let n = 0; n < 3; n += 1) {
    writeFileSync(`${configFile}.tmp`, 'port: 2\n');
    renameSync(`${configFile}.tmp`, configFile);
    await until('it is replaced', isHinted('config/config.yaml'));
    await told();
    appendFileSync(configFile, '# more\n');
    await until('it is written', isHinted('config/config.yaml'));
    await told();
  }
});

test('follows a directory that is made later, with what is in it, and one that goes', async () => {
  mkdirSync(join(authDir, 'late'));
  writeFileSync(join(authDir, 'late', 'c.json'), '{}');
  await until('all is to be looked at', isHinted(undefined));
  await told();
  appendFileSync(join(authDir, 'late', 'c.json'), '\n');
  await until('it is told', isHinted('auths/late/c.json'));
  hints = [];
  renameSync(join(authDir, 'late'), temporaryDirectory('elsewhere'));
  await until('all is to be looked at again', isHinted(undefined));
});

test('is not disturbed by files and directories of others', async () => {
  for (const name of ['.hidden', '.tokenmirror-x.tmp', 'README.txt', 'half.json.tmp']) writeFileSync(join(authDir, name), '{}');
  mkdirSync(join(authDir, '.git', 'objects'), { recursive: true });
  rmSync(join(authDir, 'half.json.tmp'));
  expect(await told()).toEqual([]);
});

test('is told of everything when the marker goes', async () => {
  writeFileSync(join(authDir, '.tokenmirror-replica'), 'id');
  await until('it is told', isHinted(undefined));
  await told();
  rmSync(join(authDir, '.tokenmirror-replica'));
  await until('it is told again', isHinted(undefined));
});
