import { closeSync, existsSync, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from '@jest/globals';
import { credentialFrom, silentLog, type DocumentKey } from '@tokenmirror/core';
import { cleanTemporaryDirectories, temporaryDirectory } from '@tokenmirror/testkit';
import { DirectoryWorkspace } from '@tokenmirror/workspace';
import { StillClock } from './still-clock.js';

afterAll(cleanTemporaryDirectories);

const KEY = 'auths/c.json' as DocumentKey;
const OLD = '{"type":"claude","access_token":"old"}';
const NEW = credentialFrom({ type: 'claude', access_token: 'new' });
const LATE = '{"type":"claude","access_token":"late"}';

let authDir: string;
let clock: StillClock;
let workspace: DirectoryWorkspace;

beforeEach(async () => {
  authDir = temporaryDirectory('replaced');
  clock = new StillClock();
  workspace = await opened();
  writeFileSync(join(authDir, 'c.json'), OLD);
});

async function opened(): Promise<DirectoryWorkspace> {
  const made = new DirectoryWorkspace({ authDir, configFile: undefined, stateDir: temporaryDirectory('state') }, clock, silentLog, 10_000);
  await made.recover();
  return made;
}

async function late(space = workspace, key = KEY): Promise<string[]> {
  return (await space.late(key)).map(({ text }) => text);
}

const kept = (): string[] => readdirSync(authDir).filter((name) => name.endsWith('.replaced'));

/** CLIProxyAPI has the file open, and writes after it was replaced or removed. */
async function writeLate(work: () => Promise<unknown>): Promise<void> {
  const descriptor = openSync(join(authDir, 'c.json'), 'r+');
  await work();
  writeSync(descriptor, LATE, 0);
  closeSync(descriptor);
}

test('what is written into a file that was replaced just then is offered until it is taken, a restart included', async () => {
  await writeLate(() => workspace.write(KEY, NEW, OLD));
  expect(readFileSync(join(authDir, 'c.json'), 'utf8')).toBe(NEW.text);
  expect(await late(workspace, 'auths/other.json' as DocumentKey)).toEqual([]);
  expect(await late()).toEqual([LATE]);
  workspace.release();
  const again = await opened();
  for (const { text, taken } of await again.late(KEY)) {
    expect(text).toBe(LATE);
    taken();
  }
  expect(await late(again)).toEqual([]);
  expect(await late(await opened())).toEqual([]);
});

test('what is written into a file that was removed just then is found too', async () => {
  await writeLate(() => workspace.remove(KEY, OLD));
  expect(existsSync(join(authDir, 'c.json'))).toBe(false);
  expect(await late()).toEqual([LATE]);
});

test('kept files are let go after three minutes, and at the end', async () => {
  await workspace.write(KEY, NEW, OLD);
  expect([kept().length, workspace.keepsReplaced(KEY)]).toEqual([1, true]);
  clock.elapsed += 181_000;
  await workspace.scan();
  expect([kept().length, workspace.keepsReplaced(KEY)]).toEqual([0, false]);

  await workspace.write(KEY, credentialFrom({ type: 'claude', access_token: 'newer' }), NEW.text);
  workspace.release();
  expect(kept()).toEqual([]);
});

test('a restart takes nothing for new that was there before', async () => {
  await workspace.write(KEY, NEW, OLD);
  const again = await opened();
  expect([await late(again), again.keepsReplaced(KEY)]).toEqual([[], true]);
});

test('what nobody takes stays for an hour', async () => {
  await writeLate(() => workspace.write(KEY, NEW, OLD));
  clock.elapsed += 181_000;
  await workspace.scan();
  expect(kept()).toHaveLength(1);
  clock.elapsed += 3_600_000;
  await workspace.scan();
  expect(kept()).toEqual([]);
});

test('a file that was opened to be written, and replaced while its writer was frozen, is kept for an hour', async () => {
  const descriptor = openSync(join(authDir, 'c.json'), 'w');
  await workspace.write(KEY, NEW, '');
  clock.elapsed += 1_800_000;
  await workspace.scan();
  workspace.release();
  expect(kept()).toHaveLength(1);
  expect(await late()).toEqual([]);
  writeSync(descriptor, LATE, 0);
  closeSync(descriptor);
  expect(await late()).toEqual([LATE]);
});
