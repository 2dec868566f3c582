import { hash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import {
  readDocumentKey,
  DEFAULT_HISTORY_LENGTH,
  isCredentialKey,
  parseStrictJson,
  TokenmirrorError,
  type Change,
  type ClusterIdentity,
  type Cursor,
  type Entry,
  type EntrySummary,
  type Fingerprint,
  type History,
  type Listing,
  type Revision,
  type StopWatching,
  type StoreKey,
  type TokenStore,
  type WriteOutcome,
} from '@tokenmirror/core';
import { Connections } from './connections.js';
import { readDsn, type ConnectionPlan } from './dsn.js';
import { Listener } from './listener.js';
import { isDocumentError, sqlState } from './postgres-errors.js';
import { existingTables, lookAtSchema, prepareSchema } from './schema.js';
import { statements, type Names, type Statements } from './sql.js';

export interface PostgresStoreOptions {
  readonly dsn: string;
  readonly schema?: string;
  readonly authTable?: string;
  readonly configTable?: string;
  readonly historyLength?: number;
  /** How long the server may take to answer before it counts as out of reach, in ms. */
  readonly timeoutMs?: number;
}

type EntryState = 'live' | 'deleted' | 'absent';
interface EntryRow {
  readonly cluster: string;
  readonly key: string | null;
  readonly revision: string;
  readonly state: EntryState;
}

const DEFAULT_TIMEOUT_MS = 10_000;
const REFUSED: WriteOutcome = { status: 'refused' };
const DIVIDED_BY_ZERO = '22012';
/** How long the server has to deliver a notification to ourselves, to prove that LISTEN works here. */
const PROOF_MS = 2000;

/** CLIProxyAPI's own tables as a store, with revisions, lineage, tombstones and history in tables beside them. */
export class PostgresStore implements TokenStore {
  readonly description: string;
  readonly history: History;
  readonly #plan: ConnectionPlan;
  readonly #names: Names;
  readonly #sql: Statements;
  readonly #historyLength: number;
  readonly #timeoutMs: number;
  readonly #connections: Connections;
  #identity: ClusterIdentity | undefined;
  /** Prepared statements need a connection that stays ours, as LISTEN does; a pooler in transaction mode gives none. */
  #canPrepare = false;

  /** @throws TokenmirrorError STORE_INVALID for a DSN that is not understood */
  constructor(options: PostgresStoreOptions) {
    this.#plan = readDsn(options.dsn);
    this.#names = {
      schema: options.schema ?? 'public',
      authTable: options.authTable ?? 'auth_store',
      configTable: options.configTable ?? 'config_store',
    };
    this.#sql = statements(this.#names);
    this.#historyLength = options.historyLength ?? DEFAULT_HISTORY_LENGTH;
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#connections = new Connections(this.#plan, this.#timeoutMs);
    this.description = `postgres://${this.#plan.place} (schema ${this.#names.schema})`;
    this.history = {
      versions: async (key) => {
        const { rows } = await this.#query<{ id: string; at: string; reason: string; author: string | null }>(this.#sql.versions, [
          key,
          this.#historyLength,
        ]);
        return rows.map(({ id, at, reason, author }) => ({ id, at: Math.round(Number(at)), reason, author: author ?? undefined }));
      },
      content: async (key, id) => {
        if (!/^\d{1,18}$/.test(id)) return undefined;
        const { rows } = await this.#query<{ content: string }>(this.#sql.version, [key, id]);
        return rows[0]?.content;
      },
      archive: async (key, content, reason, author) => {
        await this.#query(this.#sql.archive, [key, content, reason, author]);
      },
    };
  }

  async open(mode: 'create' | 'look'): Promise<ClusterIdentity | undefined> {
    await this.#connections.open();
    this.#identity = await this.#connections.use((client) => {
      const context = { client, sql: this.#sql, names: this.#names, place: this.#plan.place };
      return mode === 'create' ? prepareSchema(context) : lookAtSchema(context);
    });
    return this.#identity;
  }

  async list(since?: Cursor): Promise<Listing> {
    if (this.#identity === undefined) return this.#listPlain();
    if (since !== undefined) {
      const { rows } = await this.#query<EntryRow & { newest: string | null }>(this.#sql.listSince, [since]);
      this.#checkCluster(rows[0]?.cluster);
      if (BigInt(rows[0]?.newest ?? 0) >= BigInt(since)) return listingOf(rows, since, false);
    }
    const { rows } = await this.#query<EntryRow>(this.#sql.listAll);
    this.#checkCluster(rows[0]?.cluster);
    return listingOf(rows, '0', true);
  }

  async read(keys: readonly StoreKey[]): Promise<ReadonlyMap<StoreKey, Entry>> {
    const found = new Map<StoreKey, Entry>();
    if (this.#identity === undefined) {
      const sql = this.#sql.readPlain(await this.#tables());
      if (sql === '') return found;
      const { rows } = await this.#query<{ key: StoreKey; revision: Revision; content: string }>(sql, [keys]);
      for (const { key, revision, content } of rows) found.set(key, { state: 'live', key, revision, content, lineage: [] });
      return found;
    }
    const { rows } = await this.#query<EntryRow & { lineage: Fingerprint[]; content: string | null }>(this.#sql.read, [keys]);
    this.#checkCluster(rows[0]?.cluster);
    for (const { key, revision, state, lineage, content } of rows) {
      if (key === null || state === 'absent') continue;
      const known = { key: key as StoreKey, revision: revision as Revision, lineage };
      if (state === 'deleted') found.set(known.key, { state, ...known });
      else if (content !== null) found.set(known.key, { state, ...known, content });
    }
    return found;
  }

  async write(changes: readonly Change[], author: string, how?: 'together'): Promise<readonly WriteOutcome[]> {
    const refused = changes.map((change) => unacceptable(change));
    if (how === 'together' && refused.some((outcome) => outcome !== undefined)) return refused.map((outcome) => outcome ?? REFUSED);
    if (how === 'together') return this.#writeTogether(changes, author);
    const rest = changes.filter((_, index) => refused[index] === undefined);
    const outcomes = await this.#writeEach(rest, author);
    return refused.map((outcome) => outcome ?? outcomes.shift() ?? REFUSED);
  }

  async now(): Promise<number> {
    const { rows } = await this.#query<{ now: number }>(this.#sql.now);
    return rows[0]?.now ?? Date.now();
  }

  async close(): Promise<void> {
    await this.#connections.close();
  }

  async watch(hint: () => void): Promise<StopWatching> {
    let heard: () => void = () => undefined;
    const proof = new Promise<boolean>((resolve) => {
      heard = () => {
        resolve(true);
      };
    });
    let ready = false;
    const listener = new Listener({
      config: this.#connections.config,
      channel: this.#sql.channel,
      timeoutMs: this.#timeoutMs,
      hint: () => {
        if (ready) heard();
        hint();
      },
    });
    try {
      await listener.start();
      ready = true;
      await this.#query('SELECT pg_notify($1, $2)', [this.#sql.channel, '']);
      this.#canPrepare = await Promise.race([proof, delay(PROOF_MS, false, { ref: false })]);
    } catch (error) {
      await listener.stop();
      throw error;
    }
    if (this.#canPrepare) return () => listener.stop();
    await listener.stop();
    return this.#pollInstead(hint);
  }

  /** Where notifications do not arrive (a pooler in transaction mode), a hint every second. */
  #pollInstead(hint: () => void): StopWatching {
    const timer = setInterval(hint, 1000);
    timer.unref();
    return () => {
      clearInterval(timer);
      return Promise.resolve();
    };
  }

  async #writeEach(changes: readonly Change[], author: string): Promise<WriteOutcome[]> {
    if (changes.length === 0) return [];
    try {
      return await this.#writeBy(this.#sql.write, changes, author);
    } catch (error) {
      const { cause } = error as Error;
      if (!isDocumentError(cause)) throw error;
      if (changes.length === 1) return [refusedBy(cause)];
      const outcomes: WriteOutcome[] = [];
      for (const change of changes) outcomes.push(...(await this.#writeEach([change], author)));
      return outcomes;
    }
  }

  async #writeTogether(changes: readonly Change[], author: string): Promise<WriteOutcome[]> {
    if (new Set(changes.map(({ key }) => key)).size < changes.length) return changes.map(() => REFUSED);
    try {
      return await this.#writeBy(this.#sql.writeTogether, changes, author);
    } catch (error) {
      const { cause } = error as Error;
      if (sqlState(cause) === DIVIDED_BY_ZERO) return changes.map(() => REFUSED);
      if (!isDocumentError(cause)) throw error;
      return changes.map(({ key }) => (readDocumentKey(key).ok ? refusedBy(cause) : REFUSED));
    }
  }

  async #writeBy(statement: string, changes: readonly Change[], author: string): Promise<WriteOutcome[]> {
    const first = new Map(changes.toReversed().map((change) => [change.key, change]));
    const distinct = [...first.values()];
    const { rows } = await this.#query<{ key: StoreKey; revision: Revision }>(statement, [
      author,
      distinct.map(({ key }) => key),
      distinct.map(({ expected }) => expected),
      distinct.map(({ content }) => content),
      distinct.map(({ lineage }) => lineage.join(',')),
      this.#historyLength,
    ]);
    const revisions = new Map(rows.map(({ key, revision }) => [key, revision]));
    return changes.map((change) => {
      const revision = first.get(change.key) === change ? revisions.get(change.key) : undefined;
      return revision === undefined ? REFUSED : { status: 'written', revision };
    });
  }

  async #listPlain(): Promise<Listing> {
    const sql = this.#sql.listPlain(await this.#tables());
    const { rows } = sql === '' ? { rows: [] } : await this.#query<{ key: string; revision: Revision }>(sql);
    return { entries: rows.map(({ key, revision }) => ({ name: key, state: 'live', revision })), cursor: '' as Cursor, complete: true };
  }

  #tables(): Promise<string[]> {
    return this.#connections.use((client) => existingTables({ client, sql: this.#sql }));
  }

  #checkCluster(found: string | undefined): void {
    if (found === this.#identity?.id) return;
    throw new TokenmirrorError(
      'STORE_UNREACHABLE',
      `Postgres at ${this.#plan.place}: the table ${this.#names.schema}.tokenmirror_meta has lost the cluster's id or holds another`,
      'Restore that table from a backup, or restart Tokenmirror to look at the new cluster.',
    );
  }

  #query<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<pg.QueryResult<Row>> {
    const name = this.#canPrepare ? `tokenmirror ${hash('md5', text)}` : undefined;
    return this.#connections.use((client) =>
      client.query<Row>({ text, ...(values === undefined ? {} : { values: [...values] }), ...(name === undefined ? {} : { name }) }),
    );
  }
}

function refusedBy(error: unknown): WriteOutcome {
  return { status: 'unacceptable', reason: `Postgres refuses it (SQLSTATE ${sqlState(error)})` };
}

function listingOf(rows: readonly EntryRow[], since: string, complete: boolean): Listing {
  const entries: EntrySummary[] = [];
  let newest = BigInt(since);
  for (const { key, revision, state } of rows) {
    if (key === null) continue;
    entries.push({ name: key, revision: revision as Revision, state });
    if (BigInt(revision) > newest) newest = BigInt(revision);
  }
  return { entries, cursor: newest.toString() as Cursor, complete };
}

/** What JSONB and TEXT cannot hold. */
function unacceptable({ key, content }: Change): WriteOutcome | undefined {
  if (content === null) return undefined;
  if (isCredentialKey(key)) {
    const reading = parseStrictJson(content);
    return reading.ok ? undefined : { status: 'unacceptable', reason: reading.reason };
  }
  return content.includes('\0') ? { status: 'unacceptable', reason: 'it has a NUL character' } : undefined;
}
