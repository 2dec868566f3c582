import { mkdirSync, readFileSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from '@jest/globals';
import { credentialFrom, silentLog, type DocumentKey } from '@tokenmirror/core';
import { DirectoryWorkspace, locate, MARKER_NAME, writeMarker } from '@tokenmirror/workspace';
import { cleanTemporaryDirectories, temporaryDirectory } from '@tokenmirror/testkit';
import { StillClock } from './still-clock.js';

afterAll(cleanTemporaryDirectories);

const KEY = 'auths/c.json' as DocumentKey;
const TEXT = '{"type":"claude","access_token":"x"}';

async function workspace() {
  const root = temporaryDirectory('workspace');
  const locations = { authDir: join(root, 'auths'), configFile: join(root, 'config', 'config.yaml'), stateDir: root };
  mkdirSync(locations.authDir);
  mkdirSync(join(root, 'config'));
  const clock = new StillClock();
  const made = new DirectoryWorkspace(locations, clock, silentLog, 10_000);
  await made.mark('replica-1');
  return { ...locations, clock, workspace: made, file: join(locations.authDir, 'c.json') };
}

describe('reading', () => {
  test('a file that is cut or empty is waited for, and judged only when it stays so', async () => {
    const { workspace: space, file, clock } = await workspace();
    for (const [text, later] of [
      ['', 'blank'],
      [TEXT.slice(0, 20), 'refused'],
    ] as const) {
      writeFileSync(file, text);
      expect(await space.read(KEY)).toMatchObject({ state: 'unsettled' });
      clock.elapsed += 500;
      expect(await space.read(KEY)).toMatchObject({ state: 'unsettled' });
      clock.elapsed += 600;
      expect(await space.read(KEY)).toMatchObject({ state: later });
      writeFileSync(file, TEXT);
      expect(await space.read(KEY)).toMatchObject({ state: 'document', text: TEXT });
    }
  });

  test('absence is confirmed after a quiet period, with the directory and the marker there', async () => {
    const { workspace: space, clock, authDir } = await workspace();
    expect(await space.read(KEY)).toEqual({ state: 'absent', confirmInMs: 1500 });
    clock.elapsed += 1000;
    expect(await space.read(KEY)).toEqual({ state: 'absent', confirmInMs: 500 });
    clock.elapsed += 1000;
    expect(await space.read(KEY)).toEqual({ state: 'absent', confirmInMs: 0 });
    const { rmSync } = await import('node:fs');
    rmSync(join(authDir, '.tokenmirror-replica'));
    expect(await space.read(KEY)).toEqual({ state: 'absent', confirmInMs: 1500 });
  });

  test('the marker of another replica, or none, is not ours; what cannot be looked at is missing', async () => {
    const { workspace: space, authDir } = await workspace();
    expect([space.presence(), space.replicaId]).toEqual(['marked', 'replica-1']);
    await writeMarker(authDir, 'replica-2');
    expect(space.presence()).toBe('unmarked');
    expect(await space.read(KEY)).toEqual({ state: 'absent', confirmInMs: 1500 });
    rmSync(join(authDir, MARKER_NAME));
    expect(space.presence()).toBe('unmarked');
    rmSync(authDir, { recursive: true });
    writeFileSync(authDir, 'a file in the place of the directory');
    expect(space.presence()).toBe('missing');
    expect(() => space.scan()).toThrow(expect.objectContaining({ code: 'WORKSPACE_DENIED' }));
    await expect(space.mark('replica-1')).rejects.toMatchObject({ code: 'WORKSPACE_DENIED' });
  });

  test('a sub-directory that is a link out of the workspace is neither read nor written through', async () => {
    const { workspace: space, authDir } = await workspace();
    const outside = temporaryDirectory('outside');
    symlinkSync(outside, join(authDir, 'team'));
    writeFileSync(join(outside, 'c.json'), TEXT);
    expect(await space.read('auths/team/c.json' as DocumentKey)).toMatchObject({ state: 'refused' });
    expect(await space.read('auths/team/other.json' as DocumentKey)).toMatchObject({ state: 'refused' });
  });

  test('a link that leaves the workspace is refused, one that stays is followed', async () => {
    const { workspace: space, authDir, file } = await workspace();
    writeFileSync(join(authDir, 'target.json'), TEXT);
    symlinkSync(join(authDir, 'target.json'), file);
    expect(await space.read(KEY)).toMatchObject({ state: 'document' });
    symlinkSync('/etc/hostname', join(authDir, 'out.json'));
    expect(await space.read('auths/out.json' as DocumentKey)).toMatchObject({
      state: 'refused',
      reason: 'it is a symbolic link that leaves the workspace',
    });
    expect((await space.scan()).refused).toMatchObject([{ name: 'out.json' }]);
  });

  test('a config counts only after it was left alone, for a prefix of it is valid', async () => {
    const { workspace: space, configFile, clock } = await workspace();
    writeFileSync(configFile, 'a: 1\n');
    utimesSync(configFile, clock.now() / 1000, clock.now() / 1000);
    expect(await space.read('config/config.yaml' as DocumentKey)).toMatchObject({ state: 'unsettled' });
    clock.elapsed += 400;
    expect(await space.read('config/config.yaml' as DocumentKey)).toMatchObject({ state: 'document' });
  });
});

describe('writing', () => {
  test('is for the content that was planned on only, and leaves nothing behind', async () => {
    const { workspace: space, file, authDir } = await workspace();
    const document = credentialFrom({ type: 'claude', access_token: 'y' });
    writeFileSync(file, TEXT);
    expect(await space.write(KEY, document, 'something else')).toEqual({ status: 'changed' });
    expect(await space.write(KEY, document, undefined)).toEqual({ status: 'changed' });
    expect(readFileSync(file, 'utf8')).toBe(TEXT);
    expect(await space.write(KEY, document, TEXT)).toMatchObject({ status: 'written' });
    expect(readFileSync(file, 'utf8')).toBe(document.text);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(await space.remove(KEY, TEXT)).toEqual({ status: 'changed' });
    expect(await space.remove(KEY, document.text)).toMatchObject({ status: 'written' });
    space.release();
    const { readdirSync } = await import('node:fs');
    expect(readdirSync(authDir)).toEqual(['.tokenmirror-replica']);
  });

  test('temporary files that a crash left are removed, others are not', async () => {
    const { workspace: space, authDir } = await workspace();
    const left = join(authDir, '.tokenmirror-0123456789abcdef.tmp');
    writeFileSync(left, TEXT);
    writeFileSync(join(authDir, 'mine.json.tmp'), TEXT);
    utimesSync(left, 1, 1);
    await space.recover();
    const { readdirSync } = await import('node:fs');
    expect(readdirSync(authDir).sort()).toEqual(['.tokenmirror-replica', 'mine.json.tmp']);
  });
});

describe('locations', () => {
  test('the auth-dir of the config is read, relative to it or to the home directory', () => {
    const root = temporaryDirectory('locations');
    mkdirSync(join(root, 'creds'));
    writeFileSync(join(root, 'config.yaml'), 'auth-dir: "./creds"\n');
    expect(locate({ config: join(root, 'config.yaml') })).toEqual({
      authDir: join(root, 'creds'),
      configFile: join(root, 'config.yaml'),
      stateDir: `${join(root, 'creds')}.tokenmirror`,
    });
  });

  test('a place that was named and is not there is an error with a remedy', () => {
    for (const choice of [{ workspace: '/no/such/place' }, { authDir: '/no/such/place' }]) {
      expect(() => locate(choice)).toThrow(
        expect.objectContaining({ code: 'WORKSPACE_MISSING', remedy: expect.stringContaining('mkdir') }),
      );
    }
    expect(() => locate({})).toThrow(expect.objectContaining({ code: 'OPTION_INVALID' }));
  });
});

test('a workspace of which only the auth directory is known holds no config', async () => {
  const root = temporaryDirectory('auths-only');
  const locations = locate({ authDir: root });
  const space = new DirectoryWorkspace(locations, new StillClock(), silentLog, 10_000);
  expect(locations.configFile).toBeUndefined();
  expect(space.holds('config/config.yaml' as DocumentKey)).toBe(false);
  expect((await space.scan()).files).toEqual([]);
});
