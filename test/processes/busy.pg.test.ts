import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, expect, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  CliProxyProcess,
  createSchema,
  DaemonProcess,
  ProviderServer,
  temporaryDirectory,
  until,
  UpstreamPostgres,
  writeInPlace,
  type Flavour,
  type TestSchema,
} from '@tokenmirror/testkit';

/** A long run by hand, at about 200 requests a second on each proxy; without it a short one, in which the echoes that are rare at its load are made common. */
const LONG_RUN = process.env['TOKENMIRROR_TEST_BUSY_ROUNDS'];
/** How much is done to each credential. */
const ROUNDS = Number(LONG_RUN ?? 8);
const CREDENTIALS = LONG_RUN === undefined ? 12 : 30;
const CLIENTS = LONG_RUN === undefined ? 3 : 4;
const BETWEEN_REQUESTS_MS = 8;
/** So long CLIProxyAPI takes to read a changed file, where it is forced. */
const FORCED = LONG_RUN === undefined ? { reloadDelayMs: 15 } : {};
const FLAVOURS: readonly Flavour[] = ['7.2', '6.9', '7.2'];

interface Replica {
  readonly daemon: DaemonProcess;
  readonly cpa: CliProxyProcess;
}

let schema: TestSchema;
let server: ProviderServer;
let replicas: Replica[];
let isOver: boolean;
let clients: Promise<void>[];

beforeEach(async () => {
  schema = await createSchema();
  server = await ProviderServer.start();
  isOver = false;
  clients = [];
  replicas = FLAVOURS.map((flavour) => {
    const workspace = temporaryDirectory('busy');
    const environment = { PGSTORE_DSN: schema.dsn, PGSTORE_SCHEMA: schema.schema };
    const cpa = new CliProxyProcess({
      flavour,
      workspace,
      proxyUrl: server.url('http'),
      authorityFile: server.authorityFile,
      ...FORCED,
    });
    return { daemon: new DaemonProcess(workspace, ['--custody', 'off'], environment), cpa };
  });
});

afterEach(async () => {
  isOver = true;
  await Promise.allSettled(clients);
  for (const { daemon, cpa } of replicas) await Promise.all([daemon.kill(), cpa.end('SIGKILL')]);
  await server.stop();
  await schema.destroy();
});

afterAll(cleanTemporaryDirectories);

/** Left alone, so that a few deletions are not most of all documents. */
const BYSTANDERS = 60;

const nameOf = (n: number): string => `claude-${String(n)}.json`;

/** A login whose refresh token stays with its owner: without custody two proxies would use it up. */
function login(n: number): Record<string, unknown> {
  const email = `user-${String(n)}@example.com`;
  const { access_token } = server.provider.issue('claude', email);
  const expired = new Date(Date.now() + 7 * 3_600_000).toISOString().replace(/\.\d+Z$/, 'Z');
  return { type: 'claude', email, access_token, expired, disabled: false, claude_device_ids: [`device-${String(n)}`] };
}

function onDisk({ cpa }: Replica, name: string): Record<string, unknown> | undefined {
  return cpa.credential(name);
}

async function stored(name: string): Promise<Record<string, unknown> | undefined> {
  const [row] = await schema.query<{ content: Record<string, unknown> }>('SELECT content FROM auth_store WHERE id = $1', [name]);
  return row?.content;
}

async function everywhere(name: string, isSo: (fields: Record<string, unknown> | undefined) => boolean): Promise<boolean> {
  return replicas.every((replica) => isSo(onDisk(replica, name))) && isSo(await stored(name));
}

async function isGoneEverywhere(name: string): Promise<boolean> {
  return replicas.every(({ cpa }) => !existsSync(join(cpa.authDir, name))) && (await stored(name)) === undefined;
}

function pick<T>(items: readonly T[]): T {
  const item = items[Math.floor(Math.random() * items.length)];
  if (item === undefined) throw new Error('nothing to pick from');
  return item;
}

/** What the daemons say they did with a credential, in order. */
function story(name: string): string {
  return replicas
    .flatMap(({ daemon }, replica) => daemon.wholeLog.map((line) => ({ replica, line })))
    .filter(({ line }) => line['document'] === `auths/${name}`)
    .map(({ replica, line }) => `\n${String(line['time'])} ${String(replica)} ${line.msg}: ${String(line['because'])}`)
    .sort()
    .join('');
}

/** A person writes; what the proxy itself undid before anybody could see it is written again, as the person would. */
async function writeUntilTaken(
  name: string,
  change: () => Record<string, unknown>,
  isSo: (fields: Record<string, unknown>) => boolean,
): Promise<void> {
  const { cpa } = pick(replicas);
  const path = join(cpa.authDir, name);
  let writtenAt = -Infinity;
  await until(`${name} is everywhere as it was written`, async () => {
    if (await everywhere(name, (fields) => fields !== undefined && isSo(fields))) return true;
    const isUndone = cpa.credential(name) === undefined || !isSo(cpa.credential(name) ?? {});
    if (isUndone && performance.now() - writtenAt > 7000) {
      writtenAt = performance.now();
      const text = JSON.stringify(change());
      if (Math.random() < 0.5) writeInPlace(path, text);
      else {
        writeFileSync(`${path}.editing`, text);
        renameSync(`${path}.editing`, path);
      }
    }
    await delay(20);
    return false;
  });
}

async function live(n: number): Promise<void> {
  const name = nameOf(n);
  for (let round = 0; round < ROUNDS; round += 1) {
    const choice = Math.random();
    if (choice < 0.5) {
      const note = `note ${String(n)} ${String(round)}`;
      await writeUntilTaken(
        name,
        () => ({ ...(cpaContent(name) ?? login(n)), note }),
        (fields) => fields['note'] === note,
      );
    } else if (choice < 0.85) {
      const grant = login(n);
      await writeUntilTaken(
        name,
        () => ({ ...(cpaContent(name) ?? {}), ...grant }),
        (fields) => fields['access_token'] === grant['access_token'],
      );
    } else {
      await new UpstreamPostgres(schema).deleteCredential(name);
      await until(`${name} is gone`, () => isGoneEverywhere(name));
      await delay(1500);
      expect(await isGoneEverywhere(name)).toBe(true);
      const grant = login(n);
      await writeUntilTaken(
        name,
        () => grant,
        (fields) => fields['access_token'] === grant['access_token'],
      );
    }
  }
}

function cpaContent(name: string): Record<string, unknown> | undefined {
  return onDisk(pick(replicas), name);
}

test('beside busy proxies of either version nothing is undone and nothing comes back, kills included', async () => {
  for (const { cpa } of replicas) await cpa.start();
  for (let n = 0; n < CREDENTIALS; n += 1) writeFileSync(join(pick(replicas).cpa.authDir, nameOf(n)), JSON.stringify(login(n)));
  for (let n = 0; n < BYSTANDERS; n += 1) {
    const text = JSON.stringify({ ...login(CREDENTIALS + n), disabled: true });
    writeFileSync(join(pick(replicas).cpa.authDir, `bystander-${String(n)}.json`), text);
  }
  await Promise.all(replicas.map(({ daemon }) => daemon.start()));
  for (const { cpa } of replicas) {
    for (let n = 0; n < CLIENTS; n += 1) {
      clients.push(
        (async () => {
          while (!isOver) {
            await cpa.message('claude').catch(() => undefined);
            await delay(BETWEEN_REQUESTS_MS);
          }
        })(),
      );
    }
  }

  const killer = (async () => {
    for (;;) {
      await delay(4000);
      if (isOver) return;
      const { daemon } = pick(replicas);
      await daemon.kill();
      await daemon.start();
    }
  })();
  clients.push(killer);
  await Promise.all(
    Array.from({ length: CREDENTIALS }, (_, n) =>
      live(n).catch((error: unknown) => {
        throw new Error(`${(error as Error).message}${story(nameOf(n))}`, { cause: error });
      }),
    ),
  );
  isOver = true;
  await Promise.all(clients);

  const canonical = (value: unknown): string => JSON.stringify(value, Object.keys(value as object).sort());
  for (let n = 0; n < CREDENTIALS; n += 1) {
    const name = nameOf(n);
    const truth = await stored(name);
    await until(`${name} is equal everywhere`, () => everywhere(name, (fields) => canonical(fields) === canonical(truth)));
    for (const token of server.provider.tokensOf(`user-${String(n)}@example.com`))
      if (token !== truth?.['access_token']) server.provider.kill(token);
  }
  for (const { cpa } of replicas) {
    const statuses = await Promise.all(Array.from({ length: CREDENTIALS * 2 }, async () => (await cpa.message('claude')).status));
    expect(new Set(statuses)).toEqual(new Set([200]));
  }
  const repairs = replicas.flatMap(({ daemon }) => daemon.wholeLog).filter(({ msg }) => msg === 'repair');
  expect(repairs.length).toBeGreaterThan(0);
  const configs = replicas.map(({ cpa }) => /secret-key: *(\S+)/.exec(readFileSync(cpa.configFile, 'utf8'))?.[1]);
  expect(new Set(configs).size).toBe(1);
}, 600_000);
