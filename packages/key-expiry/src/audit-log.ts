import type { Transaction } from 'kysely';
import { messageOf, TokenmirrorError, type Clock } from '@tokenmirror/core';
import type { Database } from '@tokenmirror/database';
import { withoutKeys, type ApiKey } from './api-key.js';
import type { KeyTables } from './schema.js';

/** Who did it: `cli:<user>`, `http`, `telegram:<user id>`, or `sync`. */
export type Actor = string;

export interface AuditEntry {
  readonly id: number;
  /** ms since the epoch. */
  readonly at: number;
  readonly actor: Actor;
  readonly action: string;
  readonly keyId: string | null;
  readonly mask: string | null;
  readonly outcome: 'ok' | 'failed';
  readonly detail: string;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Of all pages. */
  readonly total: number;
}

export interface AuditQuery {
  readonly keyId?: string;
  readonly offset?: number;
  readonly limit?: number;
}

/** Who did what to which key, and how it ended. Only ever added to; never a key in clear. */
export class AuditLog {
  readonly #database: Database<KeyTables>;
  readonly #clock: Clock;

  constructor(database: Database<KeyTables>, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  /** Newest first. */
  list({ keyId, offset = 0, limit = 100 }: AuditQuery = {}): Promise<Page<AuditEntry>> {
    return this.#database.read(async (db) => {
      const all = db.selectFrom('tokenmirror_key_audit').$if(keyId !== undefined, (query) => query.where('key_id', '=', keyId ?? ''));
      const { total } = await all.select((select) => select.fn.countAll<number>().as('total')).executeTakeFirstOrThrow();
      const rows = await all.selectAll().orderBy('id', 'desc').offset(offset).limit(limit).execute();
      const items = rows.map(({ id, at, actor, action, key_id, mask, outcome, detail }) => ({
        id,
        at,
        actor,
        action,
        keyId: key_id,
        mask,
        outcome: outcome as AuditEntry['outcome'],
        detail,
      }));
      return { items, total };
    });
  }

  /** A line beside the change that it tells of. */
  async write(changes: Transaction<KeyTables>, actor: Actor, action: string, key: ApiKey, detail: string): Promise<void> {
    const values = { at: this.#clock.now(), actor, action, key_id: key.id, mask: key.mask, outcome: 'ok', detail: withoutKeys(detail) };
    await changes.insertInto('tokenmirror_key_audit').values(values).execute();
  }

  /** Something that changed no key, about one or none. */
  async note(actor: Actor, action: string, outcome: AuditEntry['outcome'], detail: string, key?: ApiKey): Promise<void> {
    const of = { key_id: key?.id ?? null, mask: key?.mask ?? null };
    const values = { at: this.#clock.now(), actor, action, ...of, outcome, detail: withoutKeys(detail) };
    await this.#database.change((changes) => changes.insertInto('tokenmirror_key_audit').values(values).execute());
  }

  /** Failures leave a line, too. */
  async audited<R>(actor: Actor, action: string, work: () => Promise<R>, about?: () => Promise<ApiKey>): Promise<R> {
    try {
      return await work();
    } catch (error) {
      const reason = error instanceof TokenmirrorError ? error.message : messageOf(error);
      const key = await about?.().catch(() => undefined);
      await this.note(actor, action, 'failed', reason, key).catch(() => undefined);
      throw error;
    }
  }
}
