import { setTimeout as delay } from 'node:timers/promises';
import { API_KEY, MANAGEMENT_KEY } from '@tokenmirror/testkit';
import { mustBe, type Clause, type World } from './world.js';

interface Detail {
  readonly timestamp: string;
  readonly tokens: { readonly total_tokens: number };
}
type Apis = Record<string, { models: Record<string, { details: Detail[] }> }>;

const ON = 'redis-usage-queue-retention-seconds: 2';

/** A program that records usage, with one credential. */
async function recording(world: World, more = ''): Promise<void> {
  const { cpa } = world;
  await world.put('claude-a.json', world.claude());
  cpa.port = 0;
  await world.startLoaded();
  await cpa.end();
  await cpa.start(cpa.configText(more).replace('usage-statistics-enabled: false', 'usage-statistics-enabled: true'));
  await world.soon('it serves', async () => (await world.models(API_KEY)) === 200);
}

async function exported(world: World): Promise<Detail[]> {
  const { usage } = JSON.parse((await world.cpa.manage('GET', '/usage/export')).text) as { usage: { apis: Apis } };
  return Object.values(usage.apis[API_KEY]?.models ?? {}).flatMap(({ details }) => details);
}

async function popped(world: World, count: number): Promise<Record<string, unknown>[]> {
  const [, answer = ''] = await world.cpa.resp(['AUTH', MANAGEMENT_KEY], ['LPOP', 'usage', String(count)]);
  return [...answer.matchAll(/^\{.*\}\r?$/gm)].map(([text]) => JSON.parse(text) as Record<string, unknown>);
}

export const USAGE: readonly Clause[] = [
  {
    proves: 'counts-requests',
    title: 'the list of credentials counts what succeeded and what failed',
    run: async (world) => {
      await recording(world);
      mustBe('200', (await world.status()) === 200);
      const { files } = JSON.parse((await world.cpa.manage('GET', '/auth-files')).text) as {
        files: { success?: number; failed?: number }[];
      };
      mustBe('one succeeded', files[0]?.success === 1 && files[0].failed === 0);
    },
  },
  {
    proves: 'usage-needs-switch',
    title: 'without usage-statistics-enabled nothing is recorded, with it everything',
    run: async (world) => {
      await world.put('claude-a.json', world.claude());
      await world.startLoaded();
      mustBe('200', (await world.status()) === 200);
      mustBe('nothing is recorded', (await popped(world, 10)).length === 0);
      mustBe('it is turned on', (await world.cpa.manage('PUT', '/usage-statistics-enabled', { value: true })).status === 200);
      await world.soon('it is recorded', async () => {
        await world.status();
        return (await popped(world, 10)).length > 0;
      });
    },
  },
  {
    proves: 'usage-export',
    title: 'statistics are exported, with the client key and instants to the nanosecond, and gone after a restart',
    flavours: ['6.9'],
    run: async (world) => {
      await recording(world);
      mustBe('200', (await world.status()) === 200);
      mustBe('it is exported', (await world.cpa.manage('GET', '/usage/export')).status === 200);
      const details = await exported(world);
      mustBe('one entry', details.length === 1);
      mustBe('nanoseconds', /\.\d{7,9}(Z|[+-]\d\d:\d\d)$/.test(details[0]?.timestamp ?? ''));
      await world.cpa.end();
      await world.cpa.restart();
      mustBe('it is gone', (await exported(world)).length === 0);
    },
  },
  {
    proves: 'usage-import-merges',
    title: 'an import adds what is not there and skips what is; one digit of the instant makes another entry',
    flavours: ['6.9'],
    run: async (world) => {
      await recording(world);
      mustBe('200', (await world.status()) === 200);
      const { text } = await world.cpa.manage('GET', '/usage/export');
      const again = JSON.parse((await world.cpa.manage('POST', '/usage/import', text)).text) as { added: number; skipped: number };
      mustBe('it is skipped', again.added === 0 && again.skipped === 1);
      const cut = text.replace(/(\.\d{3})\d+/g, '$1');
      const { added } = JSON.parse((await world.cpa.manage('POST', '/usage/import', cut)).text) as { added: number };
      mustBe('a cut instant is another', added === 1);
    },
  },
  {
    proves: 'usage-queue-http',
    title: 'usage is handed out over HTTP, oldest first; a count of 0 is refused and takes nothing',
    flavours: ['7.2'],
    run: async (world) => {
      await recording(world);
      mustBe('200', (await world.status()) === 200);
      mustBe('0 is refused', (await world.cpa.manage('GET', '/usage-queue?count=0')).status === 400);
      const { status, text } = await world.cpa.manage('GET', '/usage-queue?count=5');
      const [record] = JSON.parse(text) as Record<string, unknown>[];
      mustBe('it is there', status === 200 && record?.['api_key'] === API_KEY && record['failed'] === false);
      mustBe('no export', (await world.cpa.manage('GET', '/usage/export')).status === 404);
    },
  },
  {
    proves: 'usage-queue-pops',
    title: 'what was read from the queue is gone',
    run: async (world) => {
      await recording(world);
      mustBe('200', (await world.status()) === 200);
      mustBe('it is read', (await popped(world, 5)).length === 1);
      mustBe('it is gone', (await popped(world, 5)).length === 0);
    },
  },
  {
    proves: 'usage-queue-retention',
    title: 'what is not read in time is gone',
    flavours: ['7.2'],
    run: async (world) => {
      await recording(world, ON);
      mustBe('200', (await world.status()) === 200);
      await delay(3500);
      mustBe('it is gone', (await popped(world, 5)).length === 0);
    },
  },
  {
    proves: 'usage-subscribe',
    title: 'who subscribes to `usage` is told of every request',
    flavours: ['7.2'],
    run: async (world) => {
      await recording(world);
      const channel = await world.cpa.listen('usage').catch(() => undefined);
      mustBe('there is a channel', channel !== undefined);
      mustBe('200', (await world.status()) === 200);
      await world.soon('it is told', () => channel?.messages.some((text) => text.includes('"timestamp"')) === true);
      channel?.close();
    },
  },
  {
    proves: 'usage-subscribers-starve',
    title: 'while somebody subscribes, nothing enters the queue',
    flavours: ['7.2'],
    run: async (world) => {
      await recording(world);
      const channel = await world.cpa.listen('usage');
      mustBe('200', (await world.status()) === 200);
      await world.soon('it is told', () => channel.messages.some((text) => text.includes('"timestamp"')));
      mustBe('nothing is queued', (await popped(world, 5)).length === 0);
      channel.close();
      await delay(200);
      mustBe('200', (await world.status()) === 200);
      mustBe('now it is', (await popped(world, 5)).length === 1);
    },
  },
];
