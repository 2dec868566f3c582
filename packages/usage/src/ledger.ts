import type { Selectable, Transaction } from 'kysely';
import type { Clock } from '@tokenmirror/core';
import type { Database } from '@tokenmirror/database';
import { maskOf, type KeyRegistry, type KeyUse, type QuotaCrossing } from '@tokenmirror/key-expiry';
import { DAY_MS, HOUR_MS, startOf } from './periods.js';
import type { Dimensions, Sums, UsageTables } from './schema.js';
import type { UsageEvent } from './usage-event.js';

export interface LedgerParts {
  readonly database: Database<UsageTables>;
  /** In the same database: a quota is counted in the transaction that takes the event. */
  readonly registry: KeyRegistry;
  readonly clock: Clock;
  /** For how long single events and hours are kept, in ms; days are kept for ever. */
  readonly keepEventsMs: number;
  readonly keepHoursMs: number;
}

export interface Taken {
  /** How many were new. */
  readonly added: number;
  readonly crossings: readonly QuotaCrossing[];
}

export interface Loss {
  readonly origin: string;
  readonly at: number;
  readonly kind: string;
  readonly detail: string;
}

/** What outlives single events. */
export interface Summary {
  readonly days: readonly PeriodRow[];
  readonly names: readonly { readonly hash: string; readonly mask: string }[];
}

/** An event with the masks of its key and its account beside their hashes. */
export type MaskedEvent = EventRow & { readonly key: string; readonly account: string };

/** An event as it goes into a file: masked, and as far as names were kept with them. */
export interface ExportedEvent {
  readonly row: MaskedEvent;
  readonly event: UsageEvent;
}

type Changes = Transaction<UsageTables>;
type EventRow = Selectable<UsageTables['tokenmirror_usage_events']>;
export type PeriodRow = Selectable<UsageTables['tokenmirror_usage_hours']>;

/** Rows in one statement: below what SQLite takes parameters. */
const CHUNK = 400;
const MOST_NAMES = 10_000;
const SUMS = [
  'requests',
  'failed',
  'input',
  'output',
  'reasoning',
  'cached',
  'cache_creation',
  'total',
] as const satisfies readonly (keyof Sums)[];

/** Every event once, with sums by hour and day that are never out of step with them. */
export class Ledger {
  readonly #parts: LedgerParts;
  readonly #hashes = new Map<string, string>();

  constructor(parts: LedgerParts) {
    this.#parts = parts;
  }

  get database(): Database<UsageTables> {
    return this.#parts.database;
  }

  /** Takes what is new. With `isRestorable` names are kept, encrypted, so that they can be imported again. @throws TokenmirrorError STORE_UNREACHABLE, STORE_FULL */
  take(origin: string, events: readonly UsageEvent[], isRestorable = false): Promise<Taken> {
    const { registry, database } = this.#parts;
    return database.change(async (changes) => {
      await registry.hold(changes);
      const byId = new Map(events.map((event) => [event.id, event]));
      const rows = await this.#insert(
        changes,
        origin,
        [...byId.values()].map((event) => this.#rowOf(origin, event)),
      );
      const added = rows.flatMap(({ id }) => byId.get(id) ?? []);
      if (added.length === 0) return { added: 0, crossings: [] };
      await this.#nameThem(changes, added, isRestorable);
      const crossings = await registry.countWithin(changes, added.map(useOf));
      return { added: added.length, crossings };
    });
  }

  /** Takes back what this ledger, or another one, wrote into a file. It counts for no quota. Returns how many were new. */
  takeBack(origin: string, events: readonly MaskedEvent[]): Promise<number> {
    const { registry, database } = this.#parts;
    return database.change(async (changes) => {
      await registry.hold(changes);
      const masks = new Map<string, string>();
      const rows = events.map(({ key, account, ...row }) => {
        masks.set(row.key_hash, key).set(row.account_hash, account);
        return row;
      });
      const added = await this.#insert(changes, origin, [...new Map(rows.map((row) => [row.id, row])).values()]);
      await addNames(
        changes,
        [...masks].map(([hash, mask]) => ({ hash, mask, sealed: null })),
      );
      return added.length;
    });
  }

  /** What was not there, counted by hour and day. */
  async #insert(changes: Changes, origin: string, rows: readonly EventRow[]): Promise<readonly EventRow[]> {
    const added: EventRow[] = [];
    for (const chunk of chunksOf(await this.#countable(changes, origin, rows))) {
      const inserted = await changes
        .insertInto('tokenmirror_usage_events')
        .values(chunk)
        .onConflict((conflict) => conflict.column('id').doNothing())
        .returning('id')
        .execute();
      const ids = new Set(inserted.map(({ id }) => id));
      added.push(...chunk.filter(({ id }) => ids.has(id)));
    }
    if (added.length === 0) return added;
    await addUp(changes, 'tokenmirror_usage_hours', added, HOUR_MS);
    await addUp(changes, 'tokenmirror_usage_days', added, DAY_MS);
    return added;
  }

  /** Of what is older than single events are kept nobody knows whether it was taken: it counts on days only of which nothing is known. */
  async #countable(changes: Changes, origin: string, events: readonly EventRow[]): Promise<readonly EventRow[]> {
    const { clock, keepEventsMs } = this.#parts;
    const edge = startOf(clock.now() - keepEventsMs, DAY_MS) + DAY_MS;
    if (events.every(({ at }) => at >= edge)) return events;
    const rows = await changes
      .selectFrom('tokenmirror_usage_days')
      .select('start')
      .distinct()
      .where('origin', '=', origin)
      .where('start', '<', edge)
      .execute();
    const known = new Set(rows.map(({ start }) => start));
    return events.filter(({ at }) => at >= edge || !known.has(startOf(at, DAY_MS)));
  }

  /** Ids of the events of an origin since an instant. */
  async ids(origin: string, since: number): Promise<ReadonlySet<string>> {
    const rows = await this.#parts.database.read((db) =>
      db.selectFrom('tokenmirror_usage_events').select('id').where('origin', '=', origin).where('at', '>=', since).execute(),
    );
    return new Set(rows.map(({ id }) => id));
  }

  /** Events of exports, names included; those whose names were not kept are left out, and records of a queue, which have a provider and another id. */
  async restorable(origin: string, without: ReadonlySet<string>): Promise<UsageEvent[]> {
    const { database, registry } = this.#parts;
    const [rows, names] = await database.read(async (db) => [
      await db
        .selectFrom('tokenmirror_usage_events')
        .selectAll()
        .where('origin', '=', origin)
        .where('provider', '=', '')
        .where('endpoint', '=', '')
        .orderBy('at')
        .execute(),
      await db.selectFrom('tokenmirror_usage_names').selectAll().where('sealed', 'is not', null).execute(),
    ]);
    const clear = new Map(names.map(({ hash, sealed }) => [hash, registry.secrets.unseal(sealed, hash)]));
    return rows.flatMap((row): UsageEvent[] => {
      const [apiKey, account] = [clear.get(row.key_hash), clear.get(row.account_hash)];
      if (without.has(row.id) || apiKey === undefined || account === undefined) return [];
      return [{ ...eventOf(row), apiKey, account }];
    });
  }

  /** Every event since an instant, oldest first, in pages. */
  async *pages(since: number, size: number): AsyncGenerator<readonly ExportedEvent[]> {
    const { database, registry } = this.#parts;
    const rows = await database.read((db) => db.selectFrom('tokenmirror_usage_names').selectAll().execute());
    const names = new Map(rows.map((row) => [row.hash, row]));
    const clear = (hash: string): string => {
      const found = names.get(hash);
      return registry.secrets.unseal(found?.sealed, hash) ?? found?.mask ?? '';
    };
    for (let after = { at: since, id: '' }; ;) {
      const page = await database.read((db) =>
        db
          .selectFrom('tokenmirror_usage_events')
          .selectAll()
          .where((where) => where.or([where('at', '>', after.at), where.and([where('at', '=', after.at), where('id', '>', after.id)])]))
          .orderBy('at')
          .orderBy('id')
          .limit(size)
          .execute(),
      );
      const last = page.at(-1);
      if (last === undefined) return;
      after = last;
      yield page.map((row) => ({
        row: { ...row, key: names.get(row.key_hash)?.mask ?? '', account: names.get(row.account_hash)?.mask ?? '' },
        event: { ...eventOf(row), apiKey: clear(row.key_hash), account: clear(row.account_hash) },
      }));
    }
  }

  /** The sums by day, and what their hashes stand for, masked. */
  summary(): Promise<Summary> {
    return this.#parts.database.read(async (db) => ({
      days: await db.selectFrom('tokenmirror_usage_days').selectAll().orderBy('start').execute(),
      names: await db.selectFrom('tokenmirror_usage_names').select(['hash', 'mask']).orderBy('hash').execute(),
    }));
  }

  /** Takes the sums of each day of which nothing is known here, or with `more` of which less is: for a backup of this ledger. Returns how many requests came by it. */
  restore({ days, names }: Summary, how?: 'more'): Promise<number> {
    const { database, registry } = this.#parts;
    return database.change(async (changes) => {
      await registry.hold(changes);
      const known = byDay(await changes.selectFrom('tokenmirror_usage_days').selectAll().execute());
      let restored = 0;
      for (const [day, rows] of byDay(days)) {
        const before = known.get(day) ?? [];
        const more = requestsOf(rows) - requestsOf(before);
        if (more <= 0 || (how !== 'more' && before.length > 0)) continue;
        const [{ start, origin }] = rows;
        await changes.deleteFrom('tokenmirror_usage_days').where('start', '=', start).where('origin', '=', origin).execute();
        for (const chunk of chunksOf(rows)) await changes.insertInto('tokenmirror_usage_days').values(chunk).execute();
        restored += more;
      }
      await addNames(
        changes,
        names.map((name) => ({ ...name, sealed: null })),
      );
      return restored;
    });
  }

  /** How many requests of an origin were ever counted. */
  async counted(origin: string): Promise<number> {
    const row = await this.#parts.database.read((db) =>
      db
        .selectFrom('tokenmirror_usage_days')
        .select((select) => select.fn.sum<number | string | null>('requests').as('requests'))
        .where('origin', '=', origin)
        .executeTakeFirst(),
    );
    return Number(row?.requests ?? 0);
  }

  async noteLoss(loss: Omit<Loss, 'at'>): Promise<void> {
    const at = this.#parts.clock.now();
    await this.#parts.database.change((changes) =>
      changes
        .insertInto('tokenmirror_usage_losses')
        .values({ ...loss, at })
        .execute(),
    );
  }

  /** Newest first. */
  losses(limit = 20): Promise<readonly Loss[]> {
    return this.#parts.database.read((db) =>
      db.selectFrom('tokenmirror_usage_losses').selectAll().orderBy('at', 'desc').limit(limit).execute(),
    );
  }

  /** Forgets what is older than it is kept. */
  async tidy(): Promise<void> {
    const { database, clock, keepEventsMs, keepHoursMs } = this.#parts;
    const now = clock.now();
    await database.change(async (changes) => {
      await changes
        .deleteFrom('tokenmirror_usage_events')
        .where('at', '<', now - keepEventsMs)
        .execute();
      await changes
        .deleteFrom('tokenmirror_usage_hours')
        .where('start', '<', now - keepHoursMs)
        .execute();
      await changes
        .deleteFrom('tokenmirror_usage_losses')
        .where('at', '<', now - keepHoursMs)
        .execute();
      // A name in its box is kept for as long as an event is that may be given back.
      const used = (column: 'key_hash' | 'account_hash') =>
        changes.selectFrom('tokenmirror_usage_events').select(column).where('provider', '=', '').distinct();
      await changes
        .updateTable('tokenmirror_usage_names')
        .set({ sealed: null })
        .where('sealed', 'is not', null)
        .where('hash', 'not in', used('key_hash'))
        .where('hash', 'not in', used('account_hash'))
        .execute();
    });
  }

  #rowOf(origin: string, event: UsageEvent): EventRow {
    const { id, timestamp, at, apiKey, account, authIndex, model, provider, endpoint, failed, latencyMs, tokens } = event;
    return {
      id,
      at,
      timestamp,
      origin,
      key_hash: this.#hashOf(apiKey),
      model,
      provider,
      account_hash: this.#hashOf(account),
      auth_index: authIndex,
      endpoint,
      failed: failed ? 1 : 0,
      latency_ms: Math.round(latencyMs),
      input: tokens.input,
      output: tokens.output,
      reasoning: tokens.reasoning,
      cached: tokens.cached,
      cache_creation: tokens.cacheCreation,
      total: tokens.total,
    };
  }

  /** The same few names come again and again. */
  #hashOf(name: string): string {
    const known = this.#hashes.get(name);
    if (known !== undefined) return known;
    if (this.#hashes.size >= MOST_NAMES) this.#hashes.clear();
    const hash = this.#parts.registry.secrets.hashOf(name);
    this.#hashes.set(name, hash);
    return hash;
  }

  async #nameThem(changes: Changes, events: readonly UsageEvent[], isRestorable: boolean): Promise<void> {
    const { registry } = this.#parts;
    const names = [...new Set(events.flatMap(({ apiKey, account }) => [apiKey, account]))].sort();
    const rows = names.map((name) => {
      const hash = this.#hashOf(name);
      return { hash, mask: maskedAccount(name), sealed: isRestorable ? registry.secrets.seal(name, hash) : null };
    });
    if (!isRestorable) return addNames(changes, rows);
    for (const chunk of chunksOf(rows))
      await changes
        .insertInto('tokenmirror_usage_names')
        .values(chunk)
        .onConflict((conflict) => conflict.column('hash').doUpdateSet((set) => ({ sealed: set.ref('excluded.sealed') })))
        .execute();
  }
}

type NameRow = UsageTables['tokenmirror_usage_names'];

/** What is known already stays as it is. */
async function addNames(changes: Changes, names: readonly NameRow[]): Promise<void> {
  for (const chunk of chunksOf(names))
    await changes
      .insertInto('tokenmirror_usage_names')
      .values(chunk)
      .onConflict((conflict) => conflict.column('hash').doNothing())
      .execute();
}

async function addUp(
  changes: Changes,
  table: 'tokenmirror_usage_hours' | 'tokenmirror_usage_days',
  events: readonly EventRow[],
  periodMs: number,
): Promise<void> {
  const sums = new Map<string, PeriodRow>();
  for (const event of events) {
    const { origin, key_hash, model, provider, account_hash } = event;
    const dimensions: Dimensions = { origin, key_hash, model, provider, account_hash };
    const start = startOf(event.at, periodMs);
    const name = JSON.stringify([start, origin, key_hash, model, provider, account_hash]);
    const sum = sums.get(name) ?? {
      start,
      ...dimensions,
      requests: 0,
      failed: 0,
      input: 0,
      output: 0,
      reasoning: 0,
      cached: 0,
      cache_creation: 0,
      total: 0,
    };
    for (const each of SUMS) sum[each] += each === 'requests' ? 1 : event[each];
    sums.set(name, sum);
  }
  // In one order, so that two replicas do not wait for each other.
  const rows = [...sums].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
  for (const chunk of chunksOf(rows))
    await changes
      .insertInto(table)
      .values(chunk)
      .onConflict((conflict) =>
        conflict
          .columns(['start', 'origin', 'key_hash', 'model', 'provider', 'account_hash'])
          .doUpdateSet((set) =>
            Object.fromEntries(SUMS.map((each) => [each, set(set.ref(`${table}.${each}`), '+', set.ref(`excluded.${each}`))])),
          ),
      )
      .execute();
}

/** The sums of each day of each CLIProxyAPI. */
export function byDay(rows: readonly PeriodRow[]): ReadonlyMap<string, readonly [PeriodRow, ...PeriodRow[]]> {
  const days = new Map<string, [PeriodRow, ...PeriodRow[]]>();
  for (const row of rows) {
    const day = `${String(row.start)} ${row.origin}`;
    const same = days.get(day);
    if (same === undefined) days.set(day, [row]);
    else same.push(row);
  }
  return days;
}

export function requestsOf(rows: readonly PeriodRow[]): number {
  return rows.reduce((sum, { requests }) => sum + requests, 0);
}

function useOf({ apiKey, at, tokens }: UsageEvent): KeyUse {
  return { key: apiKey, at, requests: 1, tokens: tokens.total };
}

function eventOf(row: EventRow): Omit<UsageEvent, 'apiKey' | 'account'> {
  return {
    id: row.id,
    timestamp: row.timestamp,
    at: row.at,
    authIndex: row.auth_index,
    model: row.model,
    provider: row.provider,
    endpoint: row.endpoint,
    failed: row.failed === 1,
    latencyMs: row.latency_ms,
    tokens: {
      input: row.input,
      output: row.output,
      reasoning: row.reasoning,
      cached: row.cached,
      cacheCreation: row.cache_creation,
      total: row.total,
    },
  };
}

/** `c***@example.com`, or the ends of a key. */
function maskedAccount(name: string): string {
  const [, first, domain] = /^([^\s@])[^\s@]*@([a-z0-9.-]+\.[a-z]{2,})$/i.exec(name) ?? [];
  return first !== undefined && domain !== undefined ? `${first}***@${domain}` : name === '' ? '' : maskOf(name);
}

function chunksOf<T>(items: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(items.length / CHUNK) }, (_, n) => items.slice(n * CHUNK, (n + 1) * CHUNK));
}
