import type { Clock } from '@tokenmirror/core';
import type { Database } from '@tokenmirror/database';
import type { KeyTables } from './schema.js';

export interface TargetState {
  readonly applied: readonly string[];
  readonly revision: number;
  readonly problem: string | undefined;
}

/** What was applied to each CLIProxyAPI. A target is named `<replica id> <address>`. */
export class SyncTargets {
  readonly #database: Database<KeyTables>;
  readonly #clock: Clock;

  constructor(database: Database<KeyTables>, clock: Clock) {
    this.#database = database;
    this.#clock = clock;
  }

  /** What was applied to a target last; ids of keys. */
  async applied(target: string): Promise<readonly string[]> {
    const row = await this.#database.read((db) =>
      db.selectFrom('tokenmirror_key_targets').select('applied').where('target', '=', target).executeTakeFirst(),
    );
    return row === undefined ? [] : (JSON.parse(row.applied) as string[]);
  }

  /** Forgets targets of a replica that it does not serve any more. */
  async keep(replica: string, targets: readonly string[]): Promise<void> {
    const gone = (await this.list()).filter(({ target }) => target.startsWith(`${replica} `) && !targets.includes(target));
    for (const { target } of gone)
      await this.#database.change((changes) => changes.deleteFrom('tokenmirror_key_targets').where('target', '=', target).execute());
  }

  async note(target: string, { applied, revision, problem }: TargetState): Promise<void> {
    const values = { applied: JSON.stringify(applied), revision, at: this.#clock.now(), problem: problem ?? null };
    await this.#database.change((changes) =>
      changes
        .insertInto('tokenmirror_key_targets')
        .values({ target, ...values })
        .onConflict((conflict) => conflict.column('target').doUpdateSet(values))
        .execute(),
    );
  }

  async list(): Promise<readonly (TargetState & { readonly target: string; readonly at: number })[]> {
    const rows = await this.#database.read((db) => db.selectFrom('tokenmirror_key_targets').selectAll().orderBy('target').execute());
    return rows.map(({ target, applied, revision, at, problem }) => ({
      target,
      applied: JSON.parse(applied) as string[],
      revision,
      at,
      problem: problem ?? undefined,
    }));
  }
}
