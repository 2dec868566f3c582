#!/usr/bin/env node
/**
 * `npm run bench`: what things cost, beside what a user would otherwise do. Runs the command as it is published, on a real Postgres, a real
 * S3 server and a real git server over HTTP, on this machine. Name parts to run only those: `replication`, `remote`, `custody`, `usage`. `--documents N` (default 10000), `--json` for JSON alone; the figures also go to bench-results.json.
 */
import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, watch, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const root = join(import.meta.dirname, '..');
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';
for (const script of ['ready.mjs', 'bundle.mjs']) {
  const { status } = spawnSync(process.execPath, [join(root, 'scripts', script)], { stdio: ['ignore', 'ignore', 'inherit'] });
  if (status !== 0) process.exit(status ?? 1);
}
const {
  CliProxyProcess,
  MANAGEMENT_KEY,
  ProviderServer,
  PostgresServer,
  S3Server,
  TestBucket,
  GitServer,
  GIT_USER,
  GIT_TOKEN,
  FaultProxy,
  createSchema,
  credential,
  git,
  until,
} = await import('@tokenmirror/testkit');
const { measureVisits } = await import('./bench-custody.mjs');
const { measureDraining, measureLedger, measureSingleInserts } = await import('./bench-usage.mjs');
const { default: pg } = await import('pg');

const asJson = process.argv.includes('--json');
const many = Number(process.argv[process.argv.indexOf('--documents') + 1]) || 10_000;
const few = 100;
const PARTS = ['replication', 'remote', 'custody', 'usage'];
const chosen = process.argv.slice(2).filter((word) => PARTS.includes(word));
const wants = (part) => chosen.length === 0 || chosen.includes(part);
const COMMAND = join(root, 'packages', 'cli', 'bundle', 'tokenmirror.js');
const place = mkdtempSync(join(tmpdir(), 'tokenmirror-bench-'));
const server = await PostgresServer.create();
/** The server's own housekeeping would be counted among the queries of an idle daemon. */
const housekeeper = new pg.Client({ connectionString: server.url() });
await housekeeper.connect();
await housekeeper.query('ALTER SYSTEM SET autovacuum = off');
await housekeeper.query('SELECT pg_reload_conf()');
await housekeeper.end();
const results = [];
const schemas = [];

const say = (text) => asJson || process.stderr.write(`${text}\n`);
const record = (what, value, unit, compared = []) =>
  results.push({
    what,
    value: Math.round(value * 100) / 100,
    unit,
    compared: compared.map(({ how, value: other }) => ({ how, value: Math.round(other * 100) / 100 })),
  });
const percentile = (values, share) => values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))];
const installed = (program) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;

function workspace(name, documents) {
  const path = join(place, name);
  mkdirSync(join(path, 'auths'), { recursive: true });
  for (let n = 0; n < documents; n += 1)
    writeFileSync(join(path, 'auths', `claude-${n}@example.com.json`), credential({ note: 'x'.repeat(1500) }), { mode: 0o600 });
  return path;
}

async function postgres() {
  const schema = await createSchema(server.url());
  schemas.push(schema);
  return { schema, env: { PGSTORE_DSN: server.url(), PGSTORE_SCHEMA: schema.schema } };
}
/** A bucket behind a proxy that counts the requests. */
async function objectStorage() {
  const server = await S3Server.create();
  const counter = await FaultProxy.before(server.access.endpoint);
  const { environment: direct } = new TestBucket(server.access, 'bench');
  return { server, counter, env: { ...direct, OBJECTSTORE_ENDPOINT: counter.url } };
}

async function repository() {
  const server = await GitServer.create();
  const path = server.path('bench');
  const env = {
    GITSTORE_GIT_URL: server.url('bench'),
    GITSTORE_GIT_USERNAME: GIT_USER,
    GITSTORE_GIT_TOKEN: GIT_TOKEN,
    TOKENMIRROR_GIT_CLONES: join(place, 'clones'),
  };
  return { server, path, env };
}

const filesystem = (name) => ({ env: { TOKENMIRROR_FILESYSTEM_PATH: join(place, name) } });
const environment = (env) => ({ PATH: process.env.PATH, HOME: place, NO_COLOR: '1', ...env });

function timed(program, args, env = {}) {
  const begin = performance.now();
  const { status, stderr } = spawnSync(program, args, { env: environment(env), encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} failed: ${stderr}`);
  return performance.now() - begin;
}
/** Like `timed`, where the server runs in this process. */
async function timedBeside(program, args, env = {}) {
  const begin = performance.now();
  let stderr = '';
  const child = spawn(program, args, { env: environment(env), stdio: ['ignore', 'ignore', 'pipe'] });
  child.stderr.on('data', (data) => (stderr += data));
  const status = await new Promise((resolve) => child.once('close', resolve));
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} failed: ${stderr}`);
  return performance.now() - begin;
}
const commandBeside = (args, env) => timedBeside(process.execPath, [COMMAND, ...args], env);
const command = (args, env) => timed(process.execPath, [COMMAND, ...args], env);

async function daemon(path, env, args = []) {
  const begin = performance.now();
  let log = '';
  const child = spawn(process.execPath, [COMMAND, 'run', '--workspace', path, '--log-format', 'json', ...args], {
    env: environment(env),
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.stderr.on('data', (data) => (log += data));
  await until('ready', () => log.includes('"msg":"ready"'), 120_000);
  const readyMs = performance.now() - begin;
  const proc = (file, pattern) => Number(pattern.exec(readFileSync(`/proc/${child.pid}/${file}`, 'utf8'))?.[1] ?? NaN);
  return {
    readyMs,
    rssMb: () => proc('status', /VmRSS:\s+(\d+)/) / 1024,
    /** User and system time so far, in ms; a tick is 10 ms. */
    cpuMs: () =>
      readFileSync(`/proc/${child.pid}/stat`, 'utf8')
        .split(') ')[1]
        .split(' ')
        .slice(11, 13)
        .reduce((sum, ticks) => sum + Number(ticks), 0) * 10,
    stop: () => new Promise((resolve) => (child.once('exit', resolve), child.kill())),
  };
}

async function propagation(name, env) {
  const [one, two] = [workspace(`${name}-one`, few), workspace(`${name}-two`, 0)];
  const daemons = [await daemon(one, env), await daemon(two, env)];
  await until('the start arrived', () => readdirSync(join(two, 'auths')).length > few, 60_000);
  let arrived = () => undefined;
  const watcher = watch(join(two, 'auths'), (_, file) => arrived(file));
  await delay(500);
  const times = [];
  for (let n = 0; n < 300; n += 1) {
    const file = `claude-${n % few}@example.com.json`;
    const text = credential({ note: 'x'.repeat(1500) });
    const token = JSON.parse(text).access_token;
    const done = new Promise((resolve) => {
      arrived = (changed) => {
        if (changed === file && readFileSync(join(two, 'auths', file), 'utf8').includes(token)) resolve();
      };
    });
    const begin = performance.now();
    writeFileSync(join(one, 'auths', file), text);
    await done;
    times.push(performance.now() - begin);
    await delay(20);
  }
  watcher.close();
  for (const each of daemons) await each.stop();
  return times;
}

const change = (path) => writeFileSync(join(path, 'auths', 'claude-7@example.com.json'), credential());

/** Sends all, one change, nothing; fetches all; and what an idle daemon asks for. */
async function remote(name, env, big, { up, one, down }, requests) {
  const state = join(place, `state-${name}`);
  const mirror = (path, stateDir) => commandBeside(['sync', '--workspace', path, '--state-dir', stateDir], env);
  record(`initial mirror of ${many} documents, ${name}`, await mirror(big, state), 'ms', await up());
  await mirror(big, state);
  change(big);
  record(`one change among ${many}, one-shot sync, ${name}`, await mirror(big, state), 'ms', await one());
  const fresh = workspace(`fresh-${name}`, 0);
  record(
    `fetch of ${many} documents into an empty workspace, ${name}`,
    await mirror(fresh, join(place, `state-fresh-${name}`)),
    'ms',
    await down(),
  );
  const idle = await daemon(big, env, ['--state-dir', state]);
  await delay(3000);
  const before = requests();
  await delay(30_000);
  record(
    `requests of an idle daemon per minute at the default intervals, ${many} documents, ${name}`,
    (requests() - before) * 2,
    'requests',
  );
  const changed = [];
  for (let n = 0; n < 10; n += 1) {
    const text = credential();
    const asked = requests();
    const begin = performance.now();
    writeFileSync(join(big, 'auths', 'claude-8@example.com.json'), text);
    await until('the change was sent', () => requests() > asked, 30_000);
    let seen = requests();
    let since = performance.now();
    while (performance.now() - since < 300) {
      await delay(5);
      if (requests() !== seen) [seen, since] = [requests(), performance.now()];
    }
    changed.push(since - begin);
  }
  record(`one change among ${many}, running daemon, until the last request, ${name}, p50`, percentile(changed, 0.5), 'ms');
  await idle.stop();
}

async function benchObjectStorage(big) {
  const { server, counter, env } = await objectStorage();
  const { bucket, region, accessKey, secretKey } = server.access;
  /** Through the counter, which also sends the 100-continue that this server leaves `aws` waiting for. */
  const endpoint = counter.url;
  const keys = {
    AWS_ACCESS_KEY_ID: accessKey,
    AWS_SECRET_ACCESS_KEY: secretKey,
    AWS_DEFAULT_REGION: region,
    AWS_REQUEST_CHECKSUM_CALCULATION: 'when_required',
    PATH: process.env.PATH,
  };
  const rclone = {
    RCLONE_CONFIG_S_TYPE: 's3',
    RCLONE_CONFIG_S_PROVIDER: 'Other',
    RCLONE_CONFIG_S_ENV_AUTH: 'true',
    RCLONE_CONFIG_S_ENDPOINT: endpoint,
  };
  const copy = async (from, to) => {
    const compared = [];
    const s3 = (url, tool) => url.replace('bucket:', tool === 'aws' ? `s3://${bucket}/aws` : `s:${bucket}/rclone`);
    if (installed('aws')) {
      const args = ['--endpoint-url', endpoint, 's3', 'sync', '--quiet', s3(from, 'aws'), s3(to, 'aws')];
      compared.push({ how: 'aws s3 sync', value: await timedBeside('aws', args, keys) });
    }
    if (installed('rclone'))
      compared.push({
        how: 'rclone sync',
        value: await timedBeside('rclone', ['sync', '-q', s3(from, 'rclone'), s3(to, 'rclone')], { ...keys, ...rclone }),
      });
    return compared;
  };
  const auths = join(big, 'auths');
  try {
    const up = () => copy(auths, 'bucket:');
    await remote(
      'S3',
      env,
      big,
      { up, one: up, down: () => copy('bucket:', join(place, 'copied-from-s3')) },
      () => counter.requests.length,
    );
  } finally {
    await counter.close();
    await server.destroy();
  }
}

async function benchGit(big) {
  const { server, env } = await repository();
  const other = server.path('other');
  const clone = join(place, 'by-hand');
  const byHand = (work) => {
    const begin = performance.now();
    work();
    return Promise.resolve([{ how: 'git commands on the disk of the server', value: performance.now() - begin }]);
  };
  const commitAll = () => {
    git(['add', '--all'], clone);
    git(['commit', '--quiet', '--message', 'all'], clone);
    git(['push', '--quiet', other, 'HEAD:main'], clone);
  };
  git(['init', '--quiet', '--initial-branch=main', clone], '/');
  cpSync(join(big, 'auths'), join(clone, 'auths'), { recursive: true });
  try {
    const compared = {
      up: () => byHand(commitAll),
      one: () =>
        byHand(() => {
          change(clone);
          commitAll();
        }),
      down: () => byHand(() => git(['clone', '--quiet', '--depth', '1', `file://${other}`, join(place, 'cloned-by-hand')], '/')),
    };
    await remote('git', env, big, compared, () => server.requests.length);
  } finally {
    await server.stop();
  }
}

async function naiveUpserts(path, documents) {
  const { schema } = await postgres();
  await schema.query(
    'CREATE TABLE auth_store (id TEXT PRIMARY KEY, content JSONB NOT NULL, created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(), updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW())',
  );
  const client = new pg.Client({ connectionString: server.url(), options: `-c search_path=${schema.schema}` });
  await client.connect();
  const begin = performance.now();
  for (const name of readdirSync(join(path, 'auths'))
    .filter((file) => file.endsWith('.json'))
    .slice(0, documents)) {
    await client.query(
      'INSERT INTO auth_store (id, content) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET content = EXCLUDED.content, updated_at = NOW()',
      [name, readFileSync(join(path, 'auths', name), 'utf8')],
    );
  }
  const ms = performance.now() - begin;
  await client.end();
  return ms;
}

/** What copying tools need for the same, where they are installed. */
function copiers(path, what) {
  const compared = [];
  for (const [tool, args] of [
    ['rsync', ['-a', '--delete']],
    ['rclone', ['sync', '-q']],
  ]) {
    if (!installed(tool)) continue;
    const target = join(place, `${what}-${tool}`);
    mkdirSync(target, { recursive: true });
    compared.push({ how: `${tool} to a directory`, value: timed(tool, [...args, `${path}/auths/`, `${target}/`]) });
  }
  return compared;
}

async function benchReplication() {
  for (const [name, configured] of [
    ['Postgres', await postgres()],
    ['filesystem', filesystem('store-propagation')],
  ]) {
    const times = await propagation(`propagation-${name}`, configured.env);
    record(`write on one replica → changed file on another, ${name}, p50`, percentile(times, 0.5), 'ms');
    record(`write on one replica → changed file on another, ${name}, p99`, percentile(times, 0.99), 'ms');
  }

  const big = workspace('big', many);
  const bare = command(['--version'], {});
  record('start of the command itself (part of the figures below)', bare, 'ms');
  const main = await postgres();
  record(`initial mirror of ${many} documents, Postgres`, command(['sync', '--workspace', big], main.env), 'ms', [
    { how: 'row-by-row upserts', value: await naiveUpserts(big, many) },
  ]);
  record(
    `initial mirror of ${many} documents, filesystem`,
    command(['sync', '--workspace', big, '--state-dir', join(place, 'state-fs')], filesystem('store-big').env),
    'ms',
    copiers(big, 'initial'),
  );
  record(
    `migrate ${many} documents to Postgres, each read back`,
    command(['migrate', '--from', pathToFileURL(big).href, '--to', 'postgres'], (await postgres()).env),
    'ms',
  );

  await delay(200);
  command(['sync', '--workspace', big], main.env);
  const idleSync = command(['sync', '--workspace', big], main.env);
  change(big);
  record(
    `one change among ${many}, one-shot sync, Postgres`,
    command(['sync', '--workspace', big], main.env),
    'ms',
    copiers(big, 'initial'),
  );
  record(`nothing to do over ${many}, one-shot sync, Postgres`, idleSync, 'ms');

  const idle = await daemon(big, main.env, ['--poll-interval', '1s', '--sweep-interval', '10s']);
  record(`cold start to ready with ${many} documents`, idle.readyMs, 'ms');
  await delay(8000);
  record(`RSS of an idle daemon with ${many} documents`, idle.rssMb(), 'MB');
  const transactions = async () =>
    Number(
      (await main.schema.query('SELECT xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = current_database()'))[0].n,
    );
  const [cpuBefore, before] = [idle.cpuMs(), await transactions()];
  await delay(20_000);
  record(`queries of an idle daemon per poll, ${many} documents`, ((await transactions()) - before - 1) / 20, 'queries');
  record(`CPU of an idle daemon per minute at the default intervals or faster, ${many} documents`, (idle.cpuMs() - cpuBefore) * 3, 'ms');
  await idle.stop();

  const small = workspace('small', few);
  const smallStore = await postgres();
  command(['sync', '--workspace', small], smallStore.env);
  const starts = [];
  for (let n = 0; n < 5; n += 1) {
    const started = await daemon(small, smallStore.env);
    starts.push(started.readyMs);
    if (n === 4) {
      await delay(5000);
      record(`RSS of an idle daemon with ${few} documents`, started.rssMb(), 'MB');
    }
    await started.stop();
  }
  record(`cold start to ready with ${few} documents, median of 5`, percentile(starts, 0.5), 'ms');
}

/** Visits on each store, with one credential and with a thousand. */
async function benchUsage() {
  const requests = 1_000_000;
  say(`usage: taking ${requests} requests`);
  const { perSecond, megabytes, rssMegabytes, asked } = await measureLedger(join(place, 'usage'), requests);
  const plain = await measureSingleInserts(join(place, 'plain.db'), 2000);
  record('usage: requests taken, with sums by hour and day', perSecond, '/s', [{ how: 'one INSERT each, without sums', value: plain }]);
  record('usage: size of a ledger with 1,000,000 requests', megabytes, 'MB');
  record('usage: memory while taking them', rssMegabytes, 'MB');
  record('usage: top keys of 30 days, p50', percentile(asked, 0.5), 'ms');
  record('usage: top keys of 30 days, p99', percentile(asked, 0.99), 'ms');
  const count = 500;
  say(`usage: draining ${count} records`);
  const provider = await ProviderServer.start();
  const cpa = new CliProxyProcess({
    flavour: '7.2',
    workspace: join(place, 'usage-cpa'),
    proxyUrl: provider.url('http'),
    authorityFile: provider.authorityFile,
  });
  try {
    writeFileSync(
      join(cpa.authDir, 'claude-bench@example.com.json'),
      credential({ ...provider.provider.issue('claude', 'bench@example.com') }),
    );
    await cpa.start();
    await cpa.end();
    await cpa.start(cpa.configText().replace('usage-statistics-enabled: false', 'usage-statistics-enabled: true'));
    const fill = async () => {
      for (let n = 0; n < count; n += 1) await cpa.message('claude');
    };
    const { http, resp } = await measureDraining({ url: `http://127.0.0.1:${cpa.port}`, key: MANAGEMENT_KEY, count, fill });
    record(`usage: ${count} records out of the queue, over HTTP`, http, 'ms', [{ how: 'over RESP', value: resp }]);
  } finally {
    await cpa.end('SIGKILL');
    await provider.stop();
  }
}

async function benchCustody() {
  const transactions = async (schema) =>
    Number((await schema.query('SELECT xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = current_database()'))[0].n);
  const measured = async (name, make, credentials, rotations, idleOf) => {
    const among = `${name}, ${credentials === 1 ? '1 credential' : `${credentials} credentials`}`;
    say(`Custody on ${among} ...`);
    const made = await make(credentials);
    try {
      const idle = idleOf && ((daemons) => idleOf(made, daemons));
      const { whole, everywhere, others } = await measureVisits({
        name,
        env: made.env,
        place,
        credentials,
        rotations,
        daemon,
        commandBeside,
        idle,
      });
      record(`refresh until all 3 replicas have it, beyond the provider's time, ${among}, p50`, percentile(everywhere, 0.5), 'ms');
      record(`refresh until all 3 replicas have it, beyond the provider's time, ${among}, p90`, percentile(everywhere, 0.9), 'ms');
      record(`of which after CLIProxyAPI wrote its file, ${among}, p50`, percentile(others, 0.5), 'ms');
      record(`the refresh token on one disk, the provider's 30 ms included, ${among}, p50`, percentile(whole, 0.5), 'ms');
    } finally {
      await made.close?.();
    }
  };
  const idle = async ({ schema }, daemons) => {
    const cpu = () => daemons.reduce((sum, each) => sum + each.cpuMs(), 0);
    const [cpuBefore, before] = [cpu(), await transactions(schema)];
    await delay(30_000);
    record(
      'queries of a replica per minute while nothing is due, 1000 credentials, postgres',
      (((await transactions(schema)) - before - 1) * 2) / daemons.length,
      'queries',
    );
    record(
      'CPU of a replica per minute while nothing is due, 1000 credentials, postgres',
      ((cpu() - cpuBefore) * 2) / daemons.length,
      'ms',
    );
  };
  const stores = {
    postgres: () => postgres(),
    filesystem: (credentials) => Promise.resolve(filesystem(`store-custody-${credentials}`)),
    s3: async () => {
      const { server, counter, env } = await objectStorage();
      return { env, close: async () => (await counter.close(), await server.destroy()) };
    },
    git: async (credentials) => {
      const { server, env } = await repository();
      return { env: { ...env, TOKENMIRROR_GIT_CLONES: join(place, `clones-custody-${credentials}`) }, close: () => server.stop() };
    },
  };
  for (const [name, make] of Object.entries(stores)) {
    for (const credentials of [1, 1000])
      await measured(name, make, credentials, name === 'postgres' ? 20 : 8, name === 'postgres' && credentials > 1 ? idle : undefined);
  }
}

try {
  say(`Measuring on ${cpus().length} cores, ${few} and ${many} documents of 2 KB ...`);
  if (wants('replication')) await benchReplication();
  if (wants('remote')) {
    const big = workspace('big-remote', many);
    await benchObjectStorage(big);
    await benchGit(big);
  }
  if (wants('custody')) await benchCustody();
  if (wants('usage')) await benchUsage();

  writeFileSync(join(root, 'bench-results.json'), `${JSON.stringify(results, null, 2)}\n`);
  if (asJson) process.stdout.write(`${JSON.stringify(results, null, 2)}\n`);
  else {
    const width = Math.max(...results.map(({ what }) => what.length));
    process.stdout.write('\n');
    for (const { what, value, unit, compared } of results) {
      const beside = compared.map(({ how, value: other }) => `${how}: ${other} ${unit}`).join(', ');
      process.stdout.write(`${what.padEnd(width)}  ${`${value} ${unit}`.padStart(14)}${beside === '' ? '' : `   (${beside})`}\n`);
    }
    for (const tool of ['rsync', 'rclone', 'aws'])
      if (!installed(tool)) process.stdout.write(`${tool} is not installed here, so it is not among the comparisons.\n`);
  }
} finally {
  for (const schema of schemas) await schema.destroy().catch(() => undefined);
  await server.destroy();
  rmSync(place, { recursive: true, force: true });
}
