import { setTimeout as delay } from 'node:timers/promises';
import { type Dialect, Kysely, Migrator, PostgresDialect, SqliteDialect, type Transaction } from 'kysely';
import { isLibsqlBusy, openEmbedded } from './embedded.js';
import { codeOf, explain, openPool, type PostgresPlace } from './postgres.js';

/** `embedded`: one file, for one machine. `postgres`: shared by every replica. */
export type DatabasePlace = { readonly kind: 'embedded'; readonly file: string } | PostgresPlace;

/** One step from an older form of the tables to a newer one. It is carried out once, on tables of whatever content. */
export type Step = (db: Kysely<unknown>, kind: DatabasePlace['kind']) => Promise<void>;

export interface Schema {
  /** Prefix of the tables in which it is kept which steps were taken. */
  readonly name: string;
  /** By names in their order; one that was released never changes. */
  readonly steps: Readonly<Record<string, Step>>;
}

const PATIENCE_MS = 5000;
const PAUSE_MS = 15;

/** A database of a companion, with its tables `T`. Failures are explained, and never hold a value. */
export class Database<T> {
  readonly #db: Kysely<T>;
  readonly #place: DatabasePlace;

  private constructor(db: Kysely<T>, place: DatabasePlace) {
    this.#db = db;
    this.#place = place;
  }

  /**
   * Connects, and makes or migrates the tables.
   * @throws TokenmirrorError STORE_UNREACHABLE, STORE_DENIED, STORE_FULL, FORMAT_NEWER, WORKSPACE_DENIED
   */
  static async open<T>(place: DatabasePlace, schema: Schema): Promise<Database<T>> {
    const db = new Kysely<T>({ dialect: dialectOf(place) });
    const database = new Database<T>(place.kind === 'postgres' ? db.withSchema(place.schema) : db, place);
    try {
      await migrate(db, place, schema);
    } catch (error) {
      await db.destroy().catch(() => undefined);
      throw explain(error, database.description);
    }
    return database;
  }

  /** Kind and place as it may be shown. */
  get description(): string {
    return this.#place.kind === 'embedded' ? this.#place.file : this.#place.description;
  }

  get isShared(): boolean {
    return this.#place.kind === 'postgres';
  }

  /** @throws TokenmirrorError STORE_UNREACHABLE, STORE_DENIED, STORE_FULL */
  read<R>(work: (db: Kysely<T>) => Promise<R>): Promise<R> {
    return this.#patiently(() => work(this.#db));
  }

  /** All of it, or nothing. @throws TokenmirrorError STORE_UNREACHABLE, STORE_DENIED, STORE_FULL */
  change<R>(work: (transaction: Transaction<T>) => Promise<R>): Promise<R> {
    return this.#patiently(() => this.#db.transaction().execute(work));
  }

  async close(): Promise<void> {
    await this.#db.destroy();
  }

  /** Another process may be writing to the file; what was refused for that has not begun. */
  async #patiently<R>(work: () => Promise<R>): Promise<R> {
    const until = performance.now() + PATIENCE_MS;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!isToBeRepeated(error) || performance.now() >= until) throw explain(error, this.description);
        await delay(PAUSE_MS);
      }
    }
  }
}

function dialectOf(place: DatabasePlace): Dialect {
  return place.kind === 'embedded'
    ? new SqliteDialect({ database: () => openEmbedded(place.file) })
    : new PostgresDialect({ pool: () => Promise.resolve(openPool(place)) });
}

/** Two processes may come upon a new database at once; the second one finds everything made. */
async function migrate<T>(db: Kysely<T>, place: DatabasePlace, { name, steps }: Schema): Promise<void> {
  const at = (schemaless: Kysely<unknown>): Kysely<unknown> =>
    place.kind === 'postgres' ? schemaless.withSchema(place.schema) : schemaless;
  const migrations = Object.fromEntries(
    Object.entries(steps).map(([step, take]) => [step, { up: (target: Kysely<unknown>) => take(at(target), place.kind) }]),
  );
  const migrator = new Migrator({
    db,
    provider: { getMigrations: () => Promise.resolve(migrations) },
    migrationTableName: `${name}_migrations`,
    migrationLockTableName: `${name}_migrations_lock`,
    ...(place.kind === 'postgres' ? { migrationTableSchema: place.schema } : {}),
  });
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    const { error } = await migrator.migrateToLatest();
    if (error === undefined) return;
    if (performance.now() >= until || !isRace(error)) throw explain(error, 'of the companions');
    await delay(PAUSE_MS);
  }
}

/** Another process was in the way, and nothing was done. */
function isToBeRepeated(error: unknown): boolean {
  return isLibsqlBusy(error) || ['40P01', '40001'].includes(codeOf(error));
}

function isRace(error: unknown): boolean {
  return isLibsqlBusy(error) || (error instanceof Error && /already exists|duplicate key|UNIQUE constraint/i.test(error.message));
}
