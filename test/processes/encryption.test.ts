import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { cleanTemporaryDirectories, credential, DaemonProcess, runCommand, temporaryDirectory, until } from '@tokenmirror/testkit';
import { STORE_PLACES, type StoreKind, type StorePlace } from '../store-places.js';

const NAME = 'claude-me@example.com.json';
const SECRET = 'sk-client-secret-for-tests';

afterAll(cleanTemporaryDirectories);

describe.each<StoreKind>(['filesystem', 'postgres', 's3', 'git'])('encryption at rest on %s', (kind) => {
  let place: StorePlace;
  let daemons: DaemonProcess[];

  beforeEach(async () => {
    place = await STORE_PLACES[kind]();
    daemons = [];
  });

  afterEach(async () => {
    for (const daemon of daemons) await daemon.kill();
    await place.destroy();
  });

  async function newKey(): Promise<string> {
    const { exitCode, stdout } = await runCommand(['encryption', 'generate-key']);
    expect(exitCode).toBe(0);
    return stdout.trim();
  }

  const withKeys = (...keys: string[]): Record<string, string> => ({ ...place.environment, TOKENMIRROR_ENCRYPTION_KEYS: keys.join(',') });

  function daemon(environment: Readonly<Record<string, string>>): DaemonProcess {
    const made = new DaemonProcess(temporaryDirectory('encryption'), ['--custody', 'off', '--poll-interval', '500ms'], environment);
    daemons.push(made);
    return made;
  }

  const stored = async (): Promise<string> => JSON.stringify([...(await place.documents())]);

  test('two replicas with the key share what nobody else can read, a rotation included; without it nothing is touched', async () => {
    const [first, second] = [await newKey(), (await newKey()).replace('key-', 'later-')];
    const one = daemon(withKeys(first));
    const text = credential();
    const token = String((JSON.parse(text) as Record<string, unknown>)['access_token']);
    writeFileSync(join(one.authDir, NAME), text);
    writeFileSync(one.configFile, `port: 8317\napi-keys:\n  - ${SECRET}\n`);
    await one.start();
    await until('both are stored', async () => {
      const all = await stored();
      return all.split('tokenmirror_encrypted').length === 3;
    });
    expect(await stored()).not.toContain(token);
    expect(await stored()).not.toContain(SECRET);

    const two = daemon(withKeys(second, first));
    await two.start();
    expect(readFileSync(join(two.authDir, NAME), 'utf8')).toContain(token);
    expect(readFileSync(two.configFile, 'utf8')).toContain(SECRET);

    const before = await runCommand(['encryption', 'status', '--json', '--workspace', two.workspace], withKeys(second, first));
    expect(before.exitCode).toBe(1);
    const rotated = await runCommand(['encryption', 'rotate', '--workspace', two.workspace], withKeys(second, first));
    expect(rotated).toMatchObject({ exitCode: 0, stderr: '' });
    const after = await runCommand(['encryption', 'status', '--json', '--workspace', two.workspace], withKeys(second));
    expect({ code: after.exitCode, places: JSON.parse(after.stdout) as unknown }).toMatchObject({
      code: 0,
      places: [{ current: 2, total: 2 }],
    });
    expect(rotated.stdout + before.stdout + after.stdout + one.output + two.output).not.toContain(first.split(':')[1]);

    for (const each of [one, two]) await each.stop();
    const documents = await stored();
    const without = daemon(place.environment);
    writeFileSync(join(without.authDir, NAME), credential());
    without.launch();
    expect(await without.ended()).toBe(5);
    expect(without.output).toContain('ENCRYPTION_KEY');
    expect(await stored()).toBe(documents);
  });
});
