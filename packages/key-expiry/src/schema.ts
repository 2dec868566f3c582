import type { ColumnType, Kysely, Selectable, Transaction } from 'kysely';
import type { Schema } from '@tokenmirror/database';

/** Times are ms since the epoch; labels, quota and lists are JSON. */
export interface KeyTables {
  tokenmirror_keys: {
    id: string;
    hash: string;
    mask: string;
    /** The clear key in its box; `null` for a deleted one. */
    sealed: string | null;
    owner: string;
    status: string;
    expires_at: number | null;
    note: string;
    labels: string;
    quota: string | null;
    created_at: number;
    created_by: string;
    last_used_at: number | null;
    replaced_by: string | null;
  };
  /** What each key used in the latest window of each period. */
  tokenmirror_key_use: { key_id: string; period: string; window_start: number; requests: number; tokens: number };
  /** Rows are only ever added. */
  tokenmirror_key_audit: {
    id: ColumnType<number, never, never>;
    at: number;
    actor: string;
    action: string;
    key_id: string | null;
    mask: string | null;
    outcome: string;
    detail: string;
  };
  /** What was applied to each CLIProxyAPI, and how that went. */
  tokenmirror_key_targets: { target: string; applied: string; revision: number; at: number; problem: string | null };
  tokenmirror_key_meta: { name: string; value: string };
}

export type KeyRow = Selectable<KeyTables['tokenmirror_keys']>;
export type Changes = Transaction<KeyTables>;
/** Also good for a transaction. */
export type Reader = Pick<Changes, 'selectFrom'>;

export const KEY_SCHEMA: Schema = { name: 'tokenmirror_keys', steps: { '001-registry': registry } };

async function registry(db: Kysely<unknown>, kind: 'embedded' | 'postgres'): Promise<void> {
  await db.schema
    .createTable('tokenmirror_keys')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('hash', 'text', (column) => column.notNull().unique())
    .addColumn('mask', 'text', (column) => column.notNull())
    .addColumn('sealed', 'text')
    .addColumn('owner', 'text', (column) => column.notNull())
    .addColumn('status', 'text', (column) => column.notNull())
    .addColumn('expires_at', 'bigint')
    .addColumn('note', 'text', (column) => column.notNull())
    .addColumn('labels', 'text', (column) => column.notNull())
    .addColumn('quota', 'text')
    .addColumn('created_at', 'bigint', (column) => column.notNull())
    .addColumn('created_by', 'text', (column) => column.notNull())
    .addColumn('last_used_at', 'bigint')
    .addColumn('replaced_by', 'text')
    .execute();
  await db.schema.createIndex('tokenmirror_keys_owner').on('tokenmirror_keys').column('owner').execute();
  await db.schema
    .createTable('tokenmirror_key_use')
    .addColumn('key_id', 'text', (column) => column.notNull())
    .addColumn('period', 'text', (column) => column.notNull())
    .addColumn('window_start', 'bigint', (column) => column.notNull())
    .addColumn('requests', 'bigint', (column) => column.notNull())
    .addColumn('tokens', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('tokenmirror_key_use_pk', ['key_id', 'period'])
    .execute();
  await db.schema
    .createTable('tokenmirror_key_audit')
    .addColumn('id', kind === 'postgres' ? 'bigserial' : 'integer', (column) =>
      kind === 'postgres' ? column.primaryKey() : column.primaryKey().autoIncrement(),
    )
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('actor', 'text', (column) => column.notNull())
    .addColumn('action', 'text', (column) => column.notNull())
    .addColumn('key_id', 'text')
    .addColumn('mask', 'text')
    .addColumn('outcome', 'text', (column) => column.notNull())
    .addColumn('detail', 'text', (column) => column.notNull())
    .execute();
  await db.schema.createIndex('tokenmirror_key_audit_key').on('tokenmirror_key_audit').column('key_id').execute();
  await db.schema
    .createTable('tokenmirror_key_targets')
    .addColumn('target', 'text', (column) => column.primaryKey())
    .addColumn('applied', 'text', (column) => column.notNull())
    .addColumn('revision', 'bigint', (column) => column.notNull())
    .addColumn('at', 'bigint', (column) => column.notNull())
    .addColumn('problem', 'text')
    .execute();
  await db.schema
    .createTable('tokenmirror_key_meta')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('value', 'text', (column) => column.notNull())
    .execute();
}
