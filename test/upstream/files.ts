import { renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { API_KEY, MANAGEMENT_KEY } from '@tokenmirror/testkit';
import { mustBe, type Clause, type World } from './world.js';

const NAME = 'claude-a.json';

async function startedWith(world: World, more: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
  const fields = world.claude(more);
  await world.put(NAME, fields);
  await world.cpa.start();
  await world.soon('it serves', async () => (await world.status()) === 200);
  return fields;
}

export const FILES: readonly Clause[] = [
  {
    proves: 'ignores-empty-credentials',
    title: 'an empty or cut credential file leaves the one in memory in use',
    run: async (world) => {
      const fields = await startedWith(world);
      for (const text of ['', JSON.stringify(fields).slice(0, 40)]) {
        writeFileSync(world.path(NAME), text);
        await delay(300);
        mustBe('it still serves', (await world.status()) === 200);
      }
    },
  },
  {
    proves: 'hot-reload',
    title: 'a credential that is renamed over another is in use at once',
    run: async (world) => {
      const { access_token } = await startedWith(world, { refresh_token: undefined });
      world.provider.kill(String(access_token));
      await world.put(NAME, world.claude({ refresh_token: undefined }));
      await delay(300);
      mustBe('the new one serves', (await world.status()) === 200);
    },
  },
  {
    proves: 'direct-children-only',
    title: 'a credential in a sub-directory is loaded at the start only',
    run: async (world) => {
      await world.put('other/here.txt', {});
      await world.cpa.start();
      await world.put(`other/${NAME}`, world.claude());
      await world.stays('it is not in use', async () => (await world.status()) !== 200, 1500);
      await world.cpa.end();
      await world.cpa.restart();
      await world.soon('it is in use after a restart', async () => (await world.status()) === 200);
    },
  },
  {
    proves: 'removal-unloads',
    title: 'a removed credential is not used any more after a second',
    run: async (world) => {
      await startedWith(world);
      await delay(500);
      rmSync(world.path(NAME));
      await delay(2500);
      mustBe('it is not in use', (await world.status()) !== 200);
    },
  },
  {
    proves: 'config-watched-by-inode',
    title: 'after a rename over config.yaml, writes in place are not seen either',
    run: async (world) => {
      const { cpa } = world;
      await cpa.start();
      const withKey = (key: string): string => cpa.configText('', MANAGEMENT_KEY, [API_KEY, key]);
      writeFileSync(`${cpa.configFile}.new`, withKey('sk-renamed'));
      renameSync(`${cpa.configFile}.new`, cpa.configFile);
      await world.stays('the renamed one is not seen', async () => (await world.models('sk-renamed')) === 401, 1500);
      writeFileSync(cpa.configFile, withKey('sk-in-place'));
      await world.stays('nor what is written into it', async () => (await world.models('sk-in-place')) === 401, 1500);
    },
  },
  {
    proves: 'config-reload',
    title: 'config.yaml is read again after a write in place',
    run: async (world) => {
      await world.cpa.start();
      writeFileSync(world.cpa.configFile, world.cpa.configText('', MANAGEMENT_KEY, [API_KEY, 'sk-another']));
      await world.soon('the new key is let in', async () => (await world.models('sk-another')) === 200);
    },
  },
  {
    proves: 'cut-config-opens',
    title: 'a config that is cut before its api-keys serves everyone and turns the management API off',
    run: async (world) => {
      await world.cpa.start();
      mustBe('nobody is let in without a key', (await world.models(undefined)) === 401);
      const whole = world.config();
      writeFileSync(world.cpa.configFile, whole.slice(0, whole.indexOf('remote-management')));
      await world.soon('everyone is let in', async () => (await world.models(undefined)) === 200);
      await world.soon('the management API is off', async () => (await world.cpa.manage('GET', '/api-keys')).status === 404);
    },
  },
  {
    proves: 'ignores-bad-config',
    title: 'an empty or unparseable config is ignored',
    run: async (world) => {
      await world.cpa.start();
      for (const text of ['', 'api-keys: [unclosed\n  : :']) {
        writeFileSync(world.cpa.configFile, text);
        await world.stays(
          'the old settings',
          async () => (await world.models(API_KEY)) === 200 && (await world.models(undefined)) === 401,
          700,
        );
      }
    },
  },
  {
    proves: 'hashes-secret',
    title: 'a plaintext management secret is replaced by its hash, on the same inode',
    run: async (world) => {
      const { cpa } = world;
      await cpa.start();
      const { ino } = statSync(cpa.configFile);
      await world.soon('it is hashed', () => /secret-key: .?\$2[aby]\$/.test(world.config()));
      mustBe('the inode stays', statSync(cpa.configFile).ino === ino);
      mustBe('the plain key opens it', (await cpa.manage('GET', '/api-keys')).status === 200);
    },
  },
  {
    proves: 'empty-list-opens',
    title: 'an empty list of api-keys serves everyone',
    run: async (world) => {
      await world.cpa.start();
      writeFileSync(world.cpa.configFile, world.cpa.configText().replace(/api-keys:[^]*$/, 'api-keys: []\n'));
      await world.soon('everyone is let in', async () => (await world.models(undefined)) === 200);
    },
  },
  {
    proves: 'saves-after-requests',
    title: 'a start alone rewrites nothing; a request saves what is in memory',
    run: async (world) => {
      const fields = world.claude({ disabled: undefined });
      await world.put(NAME, fields);
      await world.cpa.start();
      await world.stays('the file is as it was', () => world.text(NAME) === JSON.stringify(fields), 1000);
      await world.soon('it serves', async () => (await world.status()) === 200);
      await world.soon('it has `disabled`', () => world.cpa.credential(NAME)?.['disabled'] === false);
    },
  },
  {
    proves: 'sorts-keys',
    title: 'a saved credential has its keys sorted',
    run: async (world) => {
      const fields = world.claude({ disabled: undefined });
      await world.put(NAME, fields);
      await world.startLoaded();
      await world.status();
      await world.soon('its keys are sorted', () => {
        const names = Object.keys(world.cpa.credential(NAME) ?? {});
        return names.includes('disabled') && names.join() === [...names].sort().join();
      });
    },
  },
  {
    proves: 'device-ids',
    title: 'a Claude credential that was used has device ids, and existing ones stay',
    flavours: ['7.2'],
    run: async (world) => {
      await startedWith(world);
      await world.soon('it has some', () => world.cpa.credential(NAME)?.['claude_device_ids'] !== undefined);
      const ids = JSON.stringify(world.cpa.credential(NAME)?.['claude_device_ids']);
      await world.cpa.end();
      await world.cpa.restart();
      await world.soon('it serves again', async () => (await world.status()) === 200);
      await world.stays('they stay', () => JSON.stringify(world.cpa.credential(NAME)?.['claude_device_ids']) === ids, 500);
    },
  },
];
