import { chmodSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { API_KEY, MANAGEMENT_KEY, VERSIONS, REAL_BINARY_VARIABLE } from '@tokenmirror/testkit';
import { mustBe, type Clause } from './world.js';

export const MANAGEMENT: readonly Clause[] = [
  {
    proves: 'management-needs-secret',
    title: 'without a secret the management API is not there',
    run: async (world) => {
      world.cpa.port = 0;
      await world.cpa.start();
      await world.cpa.end();
      await world.cpa.start(world.cpa.configText('', ''));
      mustBe('it answers 404', (await world.cpa.manage('GET', '/api-keys')).status === 404);
    },
  },
  {
    proves: 'bans-after-five',
    title: 'five wrong keys ban the address, the right key included, on HTTP and RESP alike',
    run: async (world) => {
      const { cpa } = world;
      await cpa.start();
      for (let n = 0; n < 5; n += 1) mustBe('it answers 401', (await cpa.manage('GET', '/api-keys', undefined, 'wrong')).status === 401);
      const banned = await cpa.manage('GET', '/api-keys');
      mustBe('the right key is refused', banned.status === 403 && banned.text.includes('IP banned due to too many failed attempts'));
      const [auth] = await cpa.resp(['AUTH', MANAGEMENT_KEY]);
      mustBe('on RESP too', auth?.startsWith('+OK') === false);
    },
  },
  {
    proves: 'refuses-empty-items',
    title: 'an empty list of keys is refused in `items` and accepted as an array, which opens the proxy',
    run: async (world) => {
      const { cpa } = world;
      await cpa.start();
      mustBe('`items` is refused', (await cpa.manage('PUT', '/api-keys', { items: [] })).status === 400);
      mustBe('keys are needed still', (await world.models(undefined)) === 401);
      mustBe('a list is taken', (await cpa.manage('PUT', '/api-keys', [API_KEY, 'sk-second'])).status === 200);
      await world.soon('the second key is let in', async () => (await world.models('sk-second')) === 200);
      mustBe('the empty array is taken', (await cpa.manage('PUT', '/api-keys', [])).status === 200);
      await world.soon('everyone is let in', async () => (await world.models(undefined)) === 200);
    },
  },
  {
    proves: 'null-key-list',
    title: 'a config without a list of keys is told as `null`',
    run: async (world) => {
      const { cpa } = world;
      cpa.port = 0;
      await cpa.start();
      await cpa.end();
      await cpa.start(cpa.configText('', MANAGEMENT_KEY, []));
      const { text } = await cpa.manage('GET', '/api-keys');
      mustBe('it is null', JSON.stringify(JSON.parse(text)) === '{"api-keys":null}');
    },
  },
  {
    proves: 'applies-before-saving',
    title: 'a change that cannot be saved is answered with 500, and is in memory all the same',
    run: async (world) => {
      const { cpa } = world;
      await cpa.start();
      chmodSync(cpa.configFile, 0o444);
      await delay(1000);
      const { status } = await cpa.manage('PUT', '/api-keys', [API_KEY, 'sk-unsaved']);
      const isRoot = process.getuid?.() === 0 && process.env[REAL_BINARY_VARIABLE] !== undefined;
      mustBe('it answers 500', isRoot || status === 500);
      mustBe('it is listed', (await cpa.manage('GET', '/api-keys')).text.includes('sk-unsaved'));
      mustBe('it is not in the file', isRoot || !world.config().includes('sk-unsaved'));
    },
  },
  {
    proves: 'delete-absent-is-ok',
    title: 'PATCH appends what it does not find, DELETE of what is not there is answered with 200',
    run: async (world) => {
      const { cpa } = world;
      await cpa.start();
      mustBe('PATCH appends', (await cpa.manage('PATCH', '/api-keys', { old: 'sk-absent', new: 'sk-appended' })).status === 200);
      const { text } = await cpa.manage('GET', '/api-keys');
      mustBe('both are listed', JSON.stringify(JSON.parse(text)) === JSON.stringify({ 'api-keys': [API_KEY, 'sk-appended'] }));
      mustBe('DELETE answers 200', (await cpa.manage('DELETE', '/api-keys?value=sk-never-there')).status === 200);
    },
  },
  {
    proves: 'keeps-comments',
    title: 'a management call that changes the config keeps its comments, and the inode',
    run: async (world) => {
      await world.cpa.start();
      const { ino } = statSync(world.cpa.configFile);
      mustBe('it is taken', (await world.cpa.manage('PUT', '/usage-statistics-enabled', { value: true })).status === 200);
      await world.soon('it is in the file', () => /usage-statistics-enabled: true/.test(world.config()));
      mustBe('the comment is there', world.config().includes('# who may use the proxy'));
      mustBe('the inode stays', statSync(world.cpa.configFile).ino === ino);
    },
  },
  {
    proves: 'management-enforced-by-watch',
    title: 'in 6.9, after a rename over the config, management calls are answered with 200 and never enforced',
    flavours: ['6.9'],
    run: async (world) => {
      const { cpa } = world;
      await cpa.start();
      mustBe('a key is added', (await cpa.manage('PUT', '/api-keys', [API_KEY, 'sk-before'])).status === 200);
      await world.soon('it is let in', async () => (await world.models('sk-before')) === 200);
      await delay(1000);
      writeFileSync(`${cpa.configFile}.new`, world.config());
      renameSync(`${cpa.configFile}.new`, cpa.configFile);
      mustBe('another is added', (await cpa.manage('PUT', '/api-keys', [API_KEY, 'sk-after'])).status === 200);
      await world.stays('it is not let in', async () => (await world.models('sk-after')) === 401, 2500);
    },
  },
  {
    proves: 'resp-needs-auth',
    title: 'the RESP port wants AUTH first, and knows few commands',
    run: async (world) => {
      await world.cpa.start();
      const [before, auth, unknown, empty] = await world.cpa.resp(
        ['LPOP', 'usage'],
        ['AUTH', MANAGEMENT_KEY],
        ['PING'],
        ['LPOP', 'usage', '10'],
      );
      mustBe('NOAUTH', before?.startsWith('-NOAUTH') === true);
      mustBe('AUTH is taken', auth?.startsWith('+OK') === true);
      mustBe('PING is unknown', unknown?.startsWith('-ERR') === true);
      mustBe('the queue is empty', empty === '*0\r\n');
    },
  },
  {
    proves: 'resp-errors',
    title: 'who listens to the channel `errors` learns which credential a request failed with, and that it is not used for a while',
    flavours: ['7.2'],
    run: async (world) => {
      const { cpa, provider } = world;
      const fields = world.claude({ refresh_token: undefined });
      await world.put('claude-a.json', fields);
      await world.startLoaded();
      const channel = await cpa.listen('errors');
      try {
        provider.kill(String(fields['access_token']));
        mustBe('401', (await world.status()) === 401);
        await world.soon('it is told', () => channel.messages.length > 0);
        const told = JSON.parse(channel.messages[0] ?? '{}') as {
          auth_id?: unknown;
          status_code?: unknown;
          auth_status?: { unavailable?: unknown };
        };
        mustBe('which credential', told.auth_id === 'claude-a.json');
        mustBe('why', told.status_code === 401);
        mustBe('and for how long', told.auth_status?.unavailable === true);
      } finally {
        channel.close();
      }
    },
  },
  {
    proves: 'lists-suspended',
    title: 'the list of credentials says which of them are not used for a while',
    run: async (world) => {
      const { cpa, provider } = world;
      const fields = world.claude({ refresh_token: undefined });
      await world.put('claude-a.json', fields);
      await world.startLoaded();
      const isUnavailable = async (): Promise<boolean> => {
        const { files } = JSON.parse((await cpa.manage('GET', '/auth-files')).text) as { files: { name: string; unavailable?: boolean }[] };
        return files.some(({ name, unavailable }) => name === 'claude-a.json' && unavailable === true);
      };
      mustBe('it is used', !(await isUnavailable()));
      provider.kill(String(fields['access_token']));
      mustBe('401', (await world.status()) === 401);
      mustBe('it is listed as unavailable', await isUnavailable());
    },
  },
  {
    proves: 'tells-version',
    title: 'management answers name the version, refusals included',
    run: async (world) => {
      await world.cpa.start();
      const { status, headers } = await world.cpa.manage('GET', '/api-keys', undefined, 'wrong');
      const version = String(headers['x-cpa-version']);
      mustBe('401', status === 401);
      const isReal = process.env[REAL_BINARY_VARIABLE] !== undefined;
      mustBe('a version', isReal ? /\d/.test(version) : version === VERSIONS[world.flavour]);
    },
  },
];
