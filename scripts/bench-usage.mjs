/** What usage costs: a million requests taken into an embedded ledger, questions about a month of them, and the queue read over HTTP and over RESP. */
import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { callResp, ManagementClient } from '@tokenmirror/cliproxy-client';
import { Database } from '@tokenmirror/database';
import { KEY_SCHEMA, KeyRegistry } from '@tokenmirror/key-expiry';
import { systemClock } from '@tokenmirror/service';
import { Ledger, Questions, readRecord, USAGE_SCHEMA } from '@tokenmirror/usage';

const DAY_MS = 86_400_000;
const BATCH = 5000;
const MODELS = ['claude-sonnet-4-5', 'claude-opus-4-1', 'gpt-5.4', 'gpt-5.4-mini'];
const KEYS = 50;

const record = (n, at) => ({
  timestamp: new Date(at).toISOString().replace('Z', `${String(n % 1_000_000).padStart(6, '0')}Z`),
  latency_ms: 900,
  source: `user-${n % 20}@example.com`,
  auth_index: String(n % 20),
  tokens: { input_tokens: 1200, output_tokens: 300, reasoning_tokens: 0, cached_tokens: 800, total_tokens: 1500 },
  failed: n % 50 === 0,
  provider: 'claude',
  model: MODELS[n % MODELS.length],
  endpoint: 'POST /v1/messages',
  api_key: `sk-client-number-${n % KEYS}-of-the-bench`,
  request_id: n.toString(16),
});

/** Returns the figures of a ledger with so many requests over the last 30 days. */
export async function measureLedger(place, requests) {
  mkdirSync(place, { recursive: true });
  const file = join(place, 'companions.db');
  const registry = await KeyRegistry.open({
    database: await Database.open({ kind: 'embedded', file }, KEY_SCHEMA),
    clock: systemClock,
    secrets: [],
  });
  const database = await Database.open({ kind: 'embedded', file }, USAGE_SCHEMA);
  const ledger = new Ledger({ database, registry, clock: systemClock, keepEventsMs: 35 * DAY_MS, keepHoursMs: 366 * DAY_MS });
  const questions = new Questions({ ledger, registry, clock: systemClock, prices: undefined });
  const first = Date.now() - 30 * DAY_MS;
  let taking = 0;
  for (let n = 0; n < requests; n += BATCH) {
    const texts = Array.from({ length: Math.min(BATCH, requests - n) }, (_, i) =>
      JSON.stringify(record(n + i, first + ((n + i) / requests) * 30 * DAY_MS)),
    );
    const begun = performance.now();
    await ledger.take(
      'bench',
      texts.map((text) => readRecord(text)),
    );
    taking += performance.now() - begun;
  }
  const rss = process.memoryUsage().rss;
  const asked = [];
  for (let n = 0; n < 20; n += 1) {
    const begun = performance.now();
    await questions.top('key', Date.now() - 30 * DAY_MS + n * 60_000);
    asked.push(performance.now() - begun);
  }
  const size = statSync(file).size;
  await registry.close();
  await database.close();
  return { perSecond: requests / (taking / 1000), megabytes: size / 1e6, rssMegabytes: rss / 1e6, asked };
}

/** How long it takes to read so many records out of the queue of a CLIProxyAPI, in ms; `fill` puts them there. */
export async function measureDraining({ url, key, count, fill }) {
  const client = new ManagementClient({
    target: () => ({ url: new URL(url), key, secret: '' }),
    clock: systemClock,
    refusedKeys: { has: () => false, add: () => undefined },
  });
  const timed = async (read) => {
    await fill();
    const begun = performance.now();
    const outcome = await read();
    const ms = performance.now() - begun;
    if (!outcome.ok || outcome.value.length < count)
      throw new Error(`of ${count} records ${outcome.ok ? outcome.value.length : outcome.refusal.kind} came`);
    return ms;
  };
  try {
    const http = await timed(() => client.call({ method: 'GET', path: `/usage-queue?count=${count}` }));
    const resp = await timed(() => callResp(client, 'LPOP', 'usage', String(count)));
    return { http, resp };
  } finally {
    client.close();
  }
}

/** What a plain loop does: one statement and one commit for each request. Returns requests a second. */
export async function measureSingleInserts(file, requests) {
  const { default: Libsql } = await import('libsql');
  const db = new Libsql(file);
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE usage (id INTEGER PRIMARY KEY, raw TEXT)');
  const insert = db.prepare('INSERT INTO usage (raw) VALUES (?)');
  const begun = performance.now();
  for (let n = 0; n < requests; n += 1) insert.run(JSON.stringify(record(n, Date.now())));
  const seconds = (performance.now() - begun) / 1000;
  db.close();
  return requests / seconds;
}
