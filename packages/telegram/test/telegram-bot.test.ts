import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { silentLog, type Clock } from '@tokenmirror/core';
import { Database } from '@tokenmirror/database';
import { KEY_SCHEMA, KeyKeeper, KeyRegistry, WantedSource, type KeyTables } from '@tokenmirror/key-expiry';
import { cleanTemporaryDirectories, TelegramServer, temporaryDirectory, until } from '@tokenmirror/testkit';
import { TelegramBot } from '../src/index.js';

let server: TelegramServer;
let registry: KeyRegistry;
let bots: TelegramBot[];
let logged: string[];
let timers: { readonly ms: number; readonly callback: () => void }[];

/** The real clock, whose timers a test sets off. */
const clock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms, callback) => {
    timers.push({ ms, callback });
    return () => undefined;
  },
};

beforeEach(async () => {
  server = await TelegramServer.start();
  const file = join(temporaryDirectory('telegram'), 'companions.db');
  registry = await KeyRegistry.open({
    database: await Database.open<KeyTables>({ kind: 'embedded', file }, KEY_SCHEMA),
    clock,
    secrets: [],
  });
  bots = [];
  logged = [];
  timers = [];
});

afterEach(async () => {
  for (const bot of bots) await bot.stop();
  await registry.close();
  await server.stop();
});

afterAll(cleanTemporaryDirectories);

function listen({ users = ['7'], chats = [] as string[], token = server.token } = {}): TelegramBot {
  const note = (event: string, detail?: unknown): void => void logged.push(`${event} ${JSON.stringify(detail)}`);
  const keeper = new KeyKeeper({
    registry,
    wanted: new WantedSource(registry, clock),
    syncs: [],
    clock,
    log: silentLog,
    intervalMs: 1000,
    remindMs: 1000,
    changed: () => undefined,
  });
  const bot = new TelegramBot({
    token,
    apiRoot: server.url,
    users,
    chats,
    commands: {
      registry: () => registry,
      keeper: () => keeper,
      usage: () => undefined,
      status: () => ['All is well.'],
      now: () => Date.now(),
    },
    redact: (text) => text,
    clock,
    log: { ...silentLog, warn: note, info: note },
  });
  bots.push(bot);
  void bot.start();
  return bot;
}

async function ask(text: string, from: Parameters<TelegramServer['say']>[1] = {}): Promise<string> {
  const before = server.sent.length;
  server.say(text, from);
  await until(`${text} is answered`, () => server.sent.length > before);
  return server.sent
    .slice(before)
    .map((message) => message.text)
    .join('\n---\n');
}

describe('the bot', () => {
  test('knows its commands, also when they are addressed to it by name', async () => {
    listen();
    for (const text of ['/help', '/start', '/help@tokenmirror_test_bot']) {
      const answer = await ask(text);
      for (const command of [
        'key_add',
        'key_extend',
        'key_disable',
        'key_enable',
        'key_delete',
        'key_list',
        'usage_key',
        'usage_top',
        'me',
        'recharge',
        'sync_now',
        'status',
      ])
        expect(answer).toContain(`/${command}`);
    }
  });

  test('goes through the life of a key: added, listed, extended, disabled, enabled, deleted; always masked', async () => {
    listen();
    const key = 'sk-given-by-somebody-1234567890';
    const asked = server.say(`/key_add ${key} me@example.com 7d for the laptop`);
    await until('it is answered', () => server.sent.length === 1);
    expect(server.deleted).toContain(asked);
    const { items } = await registry.list();
    const id = items[0]?.id ?? '';
    expect(items).toMatchObject([{ owner: 'me@example.com', note: 'for the laptop', createdBy: 'telegram:7' }]);
    expect(await ask('/key_list')).toContain(`${id} · sk-giv…7890 · me@example.com · valid`);
    await ask(`/key_extend ${id} 1d`);
    expect((await registry.get(id)).expiresAt).toBe((items[0]?.expiresAt ?? 0) + 86_400_000);
    expect(await ask(`/key_disable ${id}`)).toContain('disabled');
    expect(await ask(`/key_enable ${id}`)).toContain('valid');
    expect(await ask('/me ME@example.com')).toContain(id);
    expect(await ask(`/key_delete ${id}`)).toContain('deleted');
    expect(JSON.stringify(server.sent)).not.toContain(key);
  });

  test('makes a key in a private chat, shows it once and takes that message back; in a group it does not', async () => {
    listen({ chats: ['7', '-100'] });
    const answer = await ask('/key_add you@example.com never');
    const shown = /sk-you-[A-Za-z0-9]{32}/.exec(answer)?.[0] ?? '';
    expect((await registry.get(shown)).owner).toBe('you@example.com');
    timers.at(-1)?.callback();
    const secret = server.sent.at(-1)?.id ?? 0;
    await until('it is taken back', () => server.deleted.includes(secret));
    expect(await ask('/key_add third@example.com never', { chat: -100, kind: 'group' })).toContain('private chat');
    expect((await registry.list({ owner: 'third@example.com' })).total).toBe(0);
  });

  test.each([
    ['a stranger', { users: ['8'] }, {}],
    ['anybody, when the lists are empty', { users: [] }, {}],
    ['an allowed user in another chat', { users: ['7'], chats: ['-100'] }, {}],
  ])('does not answer %s, and says so once in the log', async (_, allowed, from) => {
    listen(allowed);
    server.say('/key_list', from);
    const last = server.say('/status', from);
    await until('both were taken', () => server.confirmed > last);
    expect(server.sent).toEqual([]);
    expect(logged.filter((line) => line.startsWith('telegram-stranger'))).toHaveLength(1);
  });

  test('pages a long list, and long answers', async () => {
    listen();
    for (let n = 0; n < 25; n += 1)
      await registry.add('test', { owner: `user-${String(n)}@example.com`, term: { kind: 'never' }, note: 'x'.repeat(400) });
    const first = await ask('/key_list all');
    await until('all of it came', () => server.sent.some(({ text }) => text.includes('Page 1 of 2: /key_list all 2')));
    expect(server.sent.every(({ text }) => text.length <= 4000)).toBe(true);
    expect(first).toContain('user-0@');
    expect(await ask('/key_list all 2')).toContain('user-24@');
  });

  test.each([
    ['/key_extend', 'something is missing'],
    ['/key_extend key_aaaabbbbcc 1d', 'no API key is registered as key_aaaabbbbcc'],
    ['/key_add me@example.com someday', 'the term is not understood'],
    ['/usage_top 7d', 'Usage is not collected here'],
  ])('says what is wrong with %j', async (text, answer) => {
    listen();
    expect(await ask(text)).toContain(answer);
  });

  test.each([
    ['/key_disable key_custom-secret-key-000001', 'key_custom-secret-key-000001'],
    ['/key_add p@ssphrase-as-key-0001 me@example.com 7d', 'p@ssphrase-as-key-0001'],
    ['/recharge sk-a-key-in-the-wrong-place-1', 'sk-a-key-in-the-wrong-place-1'],
    ['/keyadd sk-misspelt-command-12345678', 'sk-misspelt-command-12345678'],
    ['my key is sk-just-so-in-a-sentence-1', 'sk-just-so-in-a-sentence-1'],
  ])('deletes the message %j, and repeats the key nowhere', async (text, key) => {
    listen();
    const asked = server.say(text);
    await until('it is deleted', () => server.deleted.includes(asked));
    const last = server.say('/help');
    await until('all was taken', () => server.confirmed >= last && server.sent.some(({ text: sent }) => sent.includes('/key_add')));
    expect(JSON.stringify([server.sent, logged, (await registry.audit.list()).items])).not.toContain(key);
  });

  test('takes a shown key back when it is stopped', async () => {
    const bot = listen();
    await ask('/key_add you@example.com never');
    await bot.stop();
    expect(server.deleted).toContain(server.sent[0]?.id);
  });

  test('passes a request for more on to the operator', async () => {
    listen();
    await ask('/recharge me@example.com two more weeks');
    expect((await registry.audit.list()).items[0]).toMatchObject({
      action: 'recharge-request',
      actor: 'telegram:7',
      detail: 'me@example.com: two more weeks',
    });
  });

  test('goes on after trouble of Telegram, and waits where another process polls', async () => {
    server.trouble = { status: 409, description: 'Conflict: terminated by other getUpdates request' };
    const bot = listen();
    await until('it waits', () => timers.some(({ ms }) => ms === 30_000));
    expect(bot.report.problem).toContain('Conflict');
    timers.find(({ ms }) => ms === 30_000)?.callback();
    expect(await ask('/status')).toBe('All is well.');
  });

  test('gives up on a token that Telegram refuses, and shows it nowhere', async () => {
    const token = '999:a-token-that-nobody-knows';
    const bot = listen({ token });
    await until('it is refused', () => bot.report.state === 'refused');
    expect(JSON.stringify([bot.report, logged])).not.toContain(token);
  });
});
