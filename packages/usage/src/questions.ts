import type { Clock } from '@tokenmirror/core';
import type { ApiKey, KeyRegistry } from '@tokenmirror/key-expiry';
import type { Ledger } from './ledger.js';
import { DAY_MS, HOUR_MS, nextStart, startOf } from './periods.js';
import { costOf, type PriceTable } from './prices.js';
import type { Dimensions, Sums } from './schema.js';

export const GROUPS = ['key', 'owner', 'model', 'provider', 'account', 'origin'] as const;
export type Group = (typeof GROUPS)[number];

export interface UsageLine extends Sums {
  /** A mask, a model, an owner: what was asked for. */
  readonly name: string;
  /** Of the key in the registry, where it is one. */
  readonly keyId?: string;
  readonly owner?: string;
  /** An estimate, by the operator's price table; absent where a model of it has no price. */
  readonly cost?: number;
}

export interface TimelinePoint extends Sums {
  /** Beginning of the hour or day, UTC; ms since the epoch. */
  readonly start: number;
}

export interface QuestionsParts {
  readonly ledger: Ledger;
  readonly registry: KeyRegistry;
  readonly clock: Clock;
  readonly prices: PriceTable | undefined;
}

type Row = Dimensions & Sums;
type Filter = Partial<Pick<Dimensions, 'key_hash'>> & { readonly keyHashes?: readonly string[] };

const COLUMN = {
  key: 'key_hash',
  owner: 'key_hash',
  model: 'model',
  provider: 'provider',
  account: 'account_hash',
  origin: 'origin',
} as const;
const EMPTY: Sums = { requests: 0, failed: 0, input: 0, output: 0, reasoning: 0, cached: 0, cache_creation: 0, total: 0 };
const SUMS = Object.keys(EMPTY) as (keyof Sums)[];

/** Answers from the ledger. `since` is an instant in ms since the epoch. */
export class Questions {
  readonly #parts: QuestionsParts;

  constructor(parts: QuestionsParts) {
    this.#parts = parts;
  }

  get currency(): string | undefined {
    return this.#parts.prices?.currency;
  }

  /** Who used most, by tokens. */
  async top(group: Group, since: number, limit = 20, filter: Filter = {}): Promise<readonly UsageLine[]> {
    const rows = await this.#sums(since, filter, COLUMN[group]);
    const names = await this.#names(group);
    const lines = new Map<string, UsageLine>();
    for (const row of rows) {
      const value = row[COLUMN[group]];
      const found = names(value);
      const same = group === 'owner' ? found.name : value;
      lines.set(same, this.#with(lines.get(same) ?? { ...EMPTY, ...found }, row));
    }
    return [...lines.values()].sort((a, b) => b.total - a.total || b.requests - a.requests).slice(0, limit);
  }

  /** Everything since then. */
  async total(since: number, filter: Filter = {}): Promise<UsageLine> {
    const rows = await this.#sums(since, filter, 'origin');
    return rows.reduce<UsageLine>((line, row) => this.#with(line, row), { ...EMPTY, name: 'all' });
  }

  /** One key, by anything that names it in the registry, or the key itself. */
  async key(reference: string, since: number): Promise<UsageLine> {
    const { hash, found } = await this.#keyOf(reference);
    const total = await this.total(since, { key_hash: hash });
    return {
      ...total,
      name: found?.mask ?? (await this.#names('key'))(hash).name,
      ...(found === undefined ? {} : { keyId: found.id, owner: found.owner }),
    };
  }

  /** Everything of the keys of an owner. */
  async account(email: string, since: number): Promise<UsageLine> {
    const { registry } = this.#parts;
    const owner = email.trim().toLowerCase();
    const keyHashes = [...(await registry.byHash())].flatMap(([hash, key]) => (key.owner === owner ? [hash] : []));
    return { ...(await this.total(since, { keyHashes })), name: email.toLowerCase() };
  }

  /** Of all, or of one key. */
  async timeline(since: number, by: 'hour' | 'day', reference?: string): Promise<readonly TimelinePoint[]> {
    const hash = reference === undefined ? undefined : (await this.#keyOf(reference)).hash;
    const table = by === 'hour' ? 'tokenmirror_usage_hours' : 'tokenmirror_usage_days';
    const first = startOf(since, by === 'hour' ? HOUR_MS : DAY_MS);
    return this.#parts.ledger.database.read(async (db) => {
      const rows = await db
        .selectFrom(table)
        .select((select) => ['start', ...SUMS.map((name) => select.fn.sum<number>(name).as(name))])
        .where('start', '>=', first)
        .$if(hash !== undefined, (query) => query.where('key_hash', '=', hash ?? ''))
        .groupBy('start')
        .orderBy('start')
        .execute();
      return rows.map((row) => numbers(row));
    });
  }

  async #keyOf(reference: string): Promise<{ readonly hash: string; readonly found: ApiKey | undefined }> {
    const { registry } = this.#parts;
    const found = await registry.get(reference).catch(() => undefined);
    return { found, hash: found === undefined ? registry.secrets.hashOf(reference) : await registry.hashById(found.id) };
  }

  /** Single events for the part of an hour, hours for the part of a day, days for the rest: exact, and cheap over years. */
  async #sums(since: number, { key_hash: hash, keyHashes }: Filter, column: keyof Dimensions): Promise<readonly Row[]> {
    const now = this.#parts.clock.now();
    const hour = Math.min(nextStart(since, HOUR_MS), nextStart(now, HOUR_MS));
    const day = Math.min(nextStart(hour, DAY_MS), nextStart(now, DAY_MS));
    const columns = [...new Set([column, 'model'] as const)];
    if (keyHashes?.length === 0) return [];
    return this.#parts.ledger.database.read(async (db) => {
      const events = db
        .selectFrom('tokenmirror_usage_events')
        .select((select) => [
          ...columns,
          select.fn.countAll<number>().as('requests'),
          ...SUMS.filter((name) => name !== 'requests').map((name) => select.fn.sum<number>(name).as(name)),
        ])
        .where('at', '>=', since)
        .where('at', '<', hour)
        .$if(hash !== undefined, (query) => query.where('key_hash', '=', hash ?? ''))
        .$if(keyHashes !== undefined, (query) => query.where('key_hash', 'in', keyHashes ?? []))
        .groupBy(columns);
      const periods = (table: 'tokenmirror_usage_hours' | 'tokenmirror_usage_days', from: number, to: number) =>
        db
          .selectFrom(table)
          .select((select) => [...columns, ...SUMS.map((name) => select.fn.sum<number>(name).as(name))])
          .where('start', '>=', from)
          .where('start', '<', to)
          .$if(hash !== undefined, (query) => query.where('key_hash', '=', hash ?? ''))
          .$if(keyHashes !== undefined, (query) => query.where('key_hash', 'in', keyHashes ?? []))
          .groupBy(columns);
      const parts = [
        ...(since < hour ? await events.execute() : []),
        ...(hour < day ? await periods('tokenmirror_usage_hours', hour, day).execute() : []),
        ...(await periods('tokenmirror_usage_days', day, Number.MAX_SAFE_INTEGER).execute()),
      ];
      return parts.map((row) => numbers(row as unknown as Row));
    });
  }

  async #names(group: Group): Promise<(value: string) => Pick<UsageLine, 'name' | 'keyId' | 'owner'>> {
    if (group === 'model' || group === 'provider' || group === 'origin') return (value) => ({ name: value === '' ? 'unknown' : value });
    const { ledger, registry } = this.#parts;
    const rows = await ledger.database.read((db) => db.selectFrom('tokenmirror_usage_names').select(['hash', 'mask']).execute());
    const masks = new Map(rows.map(({ hash, mask }) => [hash, mask === '' ? 'none' : mask]));
    if (group === 'account') return (value) => ({ name: masks.get(value) ?? 'unknown' });
    const keys = await registry.byHash();
    return (value) => {
      const known: ApiKey | undefined = keys.get(value);
      const mask = known?.mask ?? masks.get(value) ?? 'unknown';
      if (group === 'owner') return { name: known === undefined || known.owner === '' ? 'nobody' : known.owner };
      return known === undefined ? { name: mask } : { name: mask, keyId: known.id, owner: known.owner };
    };
  }

  #with(line: UsageLine, row: Row): UsageLine {
    const { prices } = this.#parts;
    const added = Object.fromEntries(SUMS.map((name) => [name, line[name] + row[name]])) as unknown as Sums;
    const cost = prices === undefined ? undefined : costOf(row.model, row, prices);
    return { ...line, ...added, ...(cost === undefined ? {} : { cost: (line.cost ?? 0) + cost }) };
  }
}

/** Postgres gives sums as text, whatever the types say. */
function numbers<T extends Sums>(row: T): T {
  const told: Readonly<Record<keyof Sums, number | string>> = row;
  return { ...row, ...Object.fromEntries(SUMS.map((name) => [name, Number(told[name])])) };
}
