import { randomBytes } from 'node:crypto';
import type { Selectable, Transaction } from 'kysely';
import { TokenmirrorError, type Clock } from '@tokenmirror/core';
import type { Database } from '@tokenmirror/database';
import {
  checkKey,
  generateKey,
  generateSentinel,
  isKeyId,
  isSentinel,
  isTemplate,
  maskOf,
  randomText,
  stateOf,
  type ApiKey,
  type KeyState,
} from './api-key.js';
import { AuditLog, type Actor, type AuditEntry, type Page } from './audit-log.js';
import { KeyBox, keyHash, type BoxSecret } from './key-box.js';
import { windowEnd, windowStart, PERIODS, type Quota, type Use } from './quota.js';
import type { KeyTables } from './schema.js';
import { endOf, type Term } from './term.js';

export interface RegistryParts {
  readonly database: Database<KeyTables>;
  readonly clock: Clock;
  /** With which clear keys are encrypted: the first one encrypts. Without any, a secret of the registry's own does, which rests beside them. */
  readonly secrets: readonly BoxSecret[];
}

export interface NewKey {
  /** Made where absent. */
  readonly key?: string;
  readonly owner: string;
  readonly term: Term;
  readonly note?: string;
  readonly labels?: readonly string[];
  readonly quota?: Quota | null;
  readonly status?: 'active' | 'disabled';
}

/** A key as another registry had it. */
export interface ImportedKey extends Omit<NewKey, 'key' | 'term'> {
  readonly key: string;
  readonly expiresAt: number | null;
}

export interface ImportResult {
  readonly imported: readonly ApiKey[];
  readonly left: readonly { readonly mask: string; readonly reason: string }[];
}

/** A key in clear: shown once, when it is made. */
export interface MadeKey {
  readonly key: string;
  readonly record: ApiKey;
}

export const FILTERS = ['all', 'active', 'expired', 'disabled', 'exhausted', 'deleted'] as const;
/** `all`: every one that is not deleted. `active`: what CLIProxyAPI should let in now. */
export type Filter = (typeof FILTERS)[number];

export interface Query {
  readonly filter?: Filter;
  readonly owner?: string;
  readonly label?: string;
  readonly offset?: number;
  readonly limit?: number;
}

/** A key as the sync needs it. */
export interface KnownKey {
  readonly id: string;
  readonly hash: string;
  readonly mask: string;
  /** Whether CLIProxyAPI is to let it in. */
  readonly isWanted: boolean;
  /** `null`: never. */
  readonly expiresAt: number | null;
  /** In clear, where it is wanted and can be decrypted. */
  readonly key: string | undefined;
}

/** What the registry says that CLIProxyAPI should have, at one instant. */
export interface Wanted {
  readonly revision: number;
  readonly sentinel: string;
  readonly keys: readonly KnownKey[];
  /** When that changes by itself; ms since the epoch. */
  readonly changesAt: number | undefined;
  /** Wanted keys that none of the secrets opens. */
  readonly unreadable: readonly string[];
}

/** One use of a key, by its clear text. */
export interface KeyUse extends Use {
  readonly key: string;
  readonly at: number;
}

/** How far a key is into its quota, told once for each window. */
export interface QuotaCrossing {
  readonly record: ApiKey;
  /** `0.8` or `1`. */
  readonly part: number;
}

const HASH_SECRET = 'hash-secret';

type Row = Selectable<KeyTables['tokenmirror_keys']>;
type Changes = Transaction<KeyTables>;

const EMAIL = /^[^\s@]{1,64}@[^\s@]{1,190}$/;
/** Would act on a terminal, or break a line. */
const CONTROL = /\p{Cc}/u;
const LONGEST_NOTE = 1000;
const WARNINGS = [0.8, 1];

/** API keys with an owner, a term and a limit. Every change is one transaction with its line in the audit log, and raises the revision. */
export class KeyRegistry {
  readonly #database: Database<KeyTables>;
  readonly #clock: Clock;
  readonly #box: KeyBox;
  readonly #hashSecret: Buffer;
  readonly #sentinel: string;
  readonly audit: AuditLog;

  private constructor({ database, clock, secrets }: RegistryParts, own: ReadonlyMap<string, string>) {
    this.#database = database;
    this.#clock = clock;
    this.#sentinel = own.get('sentinel') ?? '';
    const fallback: BoxSecret = { id: 'own', secret: Buffer.from(own.get('box-secret') ?? '', 'base64') };
    const [first = fallback, ...rest] = secrets;
    this.#box = new KeyBox([first, ...rest, fallback]);
    this.#hashSecret = this.#hashSecretIn(own.get(HASH_SECRET) ?? '');
    this.audit = new AuditLog(database, clock);
  }

  /** The tables have to be there. Clear keys under an older secret are encrypted anew. @throws TokenmirrorError STORE_UNREACHABLE */
  static async open(parts: RegistryParts): Promise<KeyRegistry> {
    const made = {
      revision: '0',
      sentinel: generateSentinel(),
      [HASH_SECRET]: randomBytes(32).toString('base64'),
      'box-secret': randomBytes(32).toString('base64'),
    };
    const rows = await parts.database.change(async (changes) => {
      await changes
        .insertInto('tokenmirror_key_meta')
        .values(Object.entries(made).map(([name, value]) => ({ name, value })))
        .onConflict((conflict) => conflict.column('name').doNothing())
        .execute();
      return changes.selectFrom('tokenmirror_key_meta').selectAll().execute();
    });
    const own = new Map(rows.map(({ name, value }) => [name, value]));
    const registry = new KeyRegistry(parts, own);
    await registry.#sealAnew(own.get(HASH_SECRET) ?? '');
    return registry;
  }

  get description(): string {
    return this.#database.description;
  }

  /** True where every replica uses this registry. */
  get isShared(): boolean {
    return this.#database.isShared;
  }

  hashOf(key: string): string {
    return keyHash(key, this.#hashSecret);
  }

  /** Encrypts a name that has to be told again, bound to its row. */
  seal(name: string, row: string): string {
    return this.#box.seal(name, row);
  }

  /** `undefined` for what none of the secrets opens. */
  unseal(sealed: string, row: string): string | undefined {
    return this.#box.open(sealed, row);
  }

  /** Rises with every change that the sync should see. */
  async revision(): Promise<number> {
    const row = await this.#database.read((db) =>
      db.selectFrom('tokenmirror_key_meta').select('value').where('name', '=', 'revision').executeTakeFirst(),
    );
    return Number(row?.value ?? 0);
  }

  /** Every key, deleted ones included, by its hash. */
  async byHash(): Promise<ReadonlyMap<string, ApiKey>> {
    return this.#database.read(async (db) => {
      const rows = await db.selectFrom('tokenmirror_keys').selectAll().execute();
      const records = await this.#recordsOf(db, rows);
      return new Map(records.map((record, n) => [rows[n]?.hash ?? '', record]));
    });
  }

  async hashById(id: string): Promise<string> {
    const row = await this.#database.read((db) => db.selectFrom('tokenmirror_keys').select('hash').where('id', '=', id).executeTakeFirst());
    return row?.hash ?? '';
  }

  /** @throws TokenmirrorError KEY_INVALID, KEY_REFUSED */
  add(actor: Actor, wish: NewKey): Promise<MadeKey> {
    return this.audit.audited(actor, 'add', async () => {
      const now = this.#clock.now();
      const owner = checkedOwner(wish.owner);
      const key = wish.key ?? generateKey(owner);
      checkKey(key);
      const expiresAt = endOf(wish.term, now);
      refusePast(expiresAt, now);
      return this.#change(async (changes) => ({
        key,
        record: await this.#insert(changes, actor, 'add', { ...wish, owner, key, expiresAt }),
      }));
    });
  }

  /** By id, by the key in clear, or by a mask that only one key has. @throws TokenmirrorError KEY_UNKNOWN */
  get(reference: string): Promise<ApiKey> {
    return this.#database.read(async (db) => this.#recordOf(db, await this.#find(db, reference)));
  }

  list({ filter = 'all', owner, label, offset = 0, limit = Infinity }: Query = {}): Promise<Page<ApiKey>> {
    const now = this.#clock.now();
    return this.#database.read(async (db) => {
      const rows = await db
        .selectFrom('tokenmirror_keys')
        .selectAll()
        .$if(filter !== 'deleted', (query) => query.where('status', '<>', 'deleted'))
        .$if(owner !== undefined, (query) => query.where('owner', '=', (owner ?? '').toLowerCase()))
        .orderBy('created_at')
        .orderBy('id')
        .execute();
      const records = await this.#recordsOf(db, rows);
      const matching = records.filter(
        (record) => isIn(filter, stateOf(record, now)) && (label === undefined || record.labels.includes(label)),
      );
      return { items: matching.slice(offset, offset + limit), total: matching.length };
    });
  }

  /** @throws TokenmirrorError KEY_UNKNOWN */
  setStatus(actor: Actor, reference: string, status: 'active' | 'disabled'): Promise<ApiKey> {
    const action = status === 'active' ? 'enable' : 'disable';
    return this.#update(actor, action, reference, () => ({ status }));
  }

  /** Sets the end of a term; with `extend` a duration is added to what is left of the running one. @throws TokenmirrorError KEY_UNKNOWN, KEY_INVALID, KEY_REFUSED */
  setTerm(actor: Actor, reference: string, term: Term, how: 'set' | 'extend'): Promise<ApiKey> {
    return this.#update(actor, how === 'extend' ? 'extend' : 'set-expiry', reference, (row) => {
      const now = this.#clock.now();
      if (how === 'extend' && term.kind === 'after' && row.expires_at === null)
        throw new TokenmirrorError(
          'KEY_REFUSED',
          'the key never expires, so there is nothing to extend',
          'Give an instant to end its term.',
        );
      const from = how === 'extend' ? Math.max(now, row.expires_at ?? now) : now;
      const expiresAt = endOf(term, from);
      refusePast(expiresAt, now);
      return { expires_at: expiresAt };
    });
  }

  /** Changes what is given, and nothing else. @throws TokenmirrorError KEY_UNKNOWN, KEY_INVALID */
  describe(actor: Actor, reference: string, wish: Partial<Pick<NewKey, 'owner' | 'note' | 'labels' | 'quota'>>): Promise<ApiKey> {
    return this.#update(actor, 'describe', reference, () => ({
      ...(wish.owner === undefined ? {} : { owner: checkedOwner(wish.owner) }),
      ...(wish.note === undefined ? {} : { note: checkedNote(wish.note) }),
      ...(wish.labels === undefined ? {} : { labels: JSON.stringify(wish.labels.map(checkedNote)) }),
      ...(wish.quota === undefined ? {} : { quota: wish.quota === null ? null : JSON.stringify(wish.quota) }),
    }));
  }

  /** A new key with everything of the old one, which goes on for `overlapMs`. @throws TokenmirrorError KEY_UNKNOWN, KEY_REFUSED */
  rotate(actor: Actor, reference: string, overlapMs: number): Promise<MadeKey> {
    return this.audit.audited(actor, 'rotate', () =>
      this.#change(async (changes) => {
        const now = this.#clock.now();
        const row = await this.#find(changes, reference);
        const old = await this.#recordOf(changes, row);
        const state = stateOf(old, now);
        if (state !== 'valid' || old.replacedBy !== null)
          throw new TokenmirrorError(
            'KEY_REFUSED',
            `the key ${old.id} is ${old.replacedBy === null ? state : `replaced by ${old.replacedBy} already`}`,
            'Rotate one that is in use, or add a new one.',
          );
        const key = generateKey(old.owner);
        const record = await this.#insert(changes, actor, 'rotate', { ...old, key });
        const uses = await changes.selectFrom('tokenmirror_key_use').selectAll().where('key_id', '=', old.id).execute();
        for (const use of uses)
          await changes
            .insertInto('tokenmirror_key_use')
            .values({ ...use, key_id: record.id })
            .execute();
        const end = Math.min(old.expiresAt ?? Infinity, now + overlapMs);
        await changes.updateTable('tokenmirror_keys').set({ expires_at: end, replaced_by: record.id }).where('id', '=', old.id).execute();
        await this.audit.write(changes, actor, 'rotate', old, `replaced by ${record.id}, valid until ${new Date(end).toISOString()}`);
        return { key, record };
      }),
    );
  }

  /** Its hash stays, so that it is taken out wherever it comes back. @throws TokenmirrorError KEY_UNKNOWN */
  delete(actor: Actor, reference: string): Promise<ApiKey> {
    return this.#update(actor, 'delete', reference, () => ({ status: 'deleted', sealed: null }));
  }

  /** Takes over keys that CLIProxyAPI has, as they are. Those that are known already stay what they are. Returns the new ones. */
  adopt(actor: Actor, keys: readonly string[], wish: Omit<NewKey, 'key'>): Promise<readonly ApiKey[]> {
    return this.audit.audited(actor, 'adopt', () =>
      this.#change(async (changes) => {
        const owner = checkedOwner(wish.owner);
        const now = this.#clock.now();
        const expiresAt = endOf(wish.term, now);
        refusePast(expiresAt, now);
        const known = new Set((await changes.selectFrom('tokenmirror_keys').select('hash').execute()).map(({ hash }) => hash));
        const adopted: ApiKey[] = [];
        for (const key of new Set(keys)) {
          if (known.has(this.hashOf(key)) || key === '' || isTemplate(key) || isSentinel(key)) continue;
          adopted.push(await this.#insert(changes, actor, 'adopt', { ...wish, owner, key, expiresAt }));
        }
        return adopted;
      }),
    );
  }

  /** Takes keys over as another registry had them, ended ones too. What is known already stays what it is. */
  import(actor: Actor, keys: readonly ImportedKey[]): Promise<ImportResult> {
    return this.audit.audited(actor, 'import', () =>
      this.#change(async (changes) => {
        const imported: ApiKey[] = [];
        const left: { mask: string; reason: string }[] = [];
        const gone = await changes.selectFrom('tokenmirror_keys').select('hash').where('status', '=', 'deleted').execute();
        const deleted = new Set(gone.map(({ hash }) => hash));
        for (const { expiresAt, ...wish } of keys) {
          try {
            checkKey(wish.key);
            if (deleted.has(this.hashOf(wish.key)))
              throw new TokenmirrorError('KEY_REFUSED', 'this key was deleted here', 'Add it by itself if it is to come back.');
            imported.push(await this.#insert(changes, actor, 'import', { ...wish, owner: checkedOwner(wish.owner), expiresAt }));
          } catch (error) {
            if (!(error instanceof TokenmirrorError) || !error.code.startsWith('KEY_')) throw error;
            left.push({ mask: maskOf(wish.key), reason: error.message });
          }
        }
        return { imported, left };
      }),
    );
  }

  /** Makes every daemon look at its CLIProxyAPIs. Returns the revision that they come to. */
  async nudge(): Promise<number> {
    await this.#database.change((changes) => this.#raise(changes));
    return this.revision();
  }

  /** Keys in clear, with what is known of them: for an export that can be imported again. */
  async inClear(): Promise<readonly (ApiKey & { readonly key: string | undefined })[]> {
    return this.#database.read(async (db) => {
      const rows = await db.selectFrom('tokenmirror_keys').selectAll().where('status', '<>', 'deleted').orderBy('created_at').execute();
      const records = await this.#recordsOf(db, rows);
      return records.map((record, n) => ({ ...record, key: this.#open(rows[n]) }));
    });
  }

  async wanted(): Promise<Wanted> {
    const now = this.#clock.now();
    return this.#database.read(async (db) => {
      const revision = await db.selectFrom('tokenmirror_key_meta').select('value').where('name', '=', 'revision').executeTakeFirst();
      const rows = await db.selectFrom('tokenmirror_keys').selectAll().orderBy('created_at').orderBy('id').execute();
      const records = await this.#recordsOf(db, rows);
      const keys = records.map((record, n): KnownKey => {
        const isWanted = stateOf(record, now) === 'valid';
        const { id, mask, expiresAt } = record;
        return { id, hash: rows[n]?.hash ?? '', mask, isWanted, expiresAt, key: isWanted ? this.#open(rows[n]) : undefined };
      });
      const changes = records.map((record) => changeOf(record, now)).filter((at): at is number => at !== undefined);
      return {
        revision: Number(revision?.value ?? 0),
        sentinel: this.#sentinel,
        keys,
        changesAt: changes.length === 0 ? undefined : Math.min(...changes),
        unreadable: keys.filter(({ isWanted, key }) => isWanted && key === undefined).map(({ id }) => id),
      };
    });
  }

  /** Keys that used a part of their quota or more. */
  async nearLimit(part: number): Promise<readonly (ApiKey & { readonly quota: Quota })[]> {
    return this.#database.read(async (db) => {
      const rows = await db
        .selectFrom('tokenmirror_keys')
        .selectAll()
        .where('quota', 'is not', null)
        .where('status', '=', 'active')
        .execute();
      const records = await this.#recordsOf(db, rows);
      return records.filter(
        (key): key is ApiKey & { quota: Quota } => key.quota !== null && key.used[key.quota.unit] >= key.quota.limit * part,
      );
    });
  }

  /** Valid keys without a successor whose term ends before an instant. */
  async ending(before: number): Promise<readonly (ApiKey & { readonly expiresAt: number })[]> {
    const now = this.#clock.now();
    return this.#database.read(async (db) => {
      const rows = await db
        .selectFrom('tokenmirror_keys')
        .selectAll()
        .where('expires_at', '<=', before)
        .where('replaced_by', 'is', null)
        .orderBy('expires_at')
        .execute();
      const records = await this.#recordsOf(db, rows);
      return records.filter((key): key is ApiKey & { expiresAt: number } => stateOf(key, now) === 'valid');
    });
  }

  /** What of each key was used; unknown keys are left out. Returns who came to 80 or 100 % of a quota by it. */
  use(uses: readonly KeyUse[]): Promise<readonly QuotaCrossing[]> {
    return this.#database.change((changes) => this.useWithin(changes, uses));
  }

  /** The same, as a part of somebody else's transaction in the same database. */
  async useWithin(changes: Changes, uses: readonly KeyUse[]): Promise<readonly QuotaCrossing[]> {
    const crossings: QuotaCrossing[] = [];
    const now = this.#clock.now();
    // Whoever changes keys holds this row: so two replicas count one after the other, and nobody waits for the other.
    if (this.isShared)
      await changes.selectFrom('tokenmirror_key_meta').select('value').where('name', '=', 'revision').forUpdate().execute();
    const byHash = new Map<string, KeyUse[]>();
    const hashes = new Map([...new Set(uses.map(({ key }) => key))].map((key) => [key, this.hashOf(key)]));
    for (const use of uses) {
      const hash = hashes.get(use.key) ?? '';
      const same = byHash.get(hash);
      if (same === undefined) byHash.set(hash, [use]);
      else same.push(use);
    }
    if (byHash.size === 0) return crossings;
    const rows = await changes
      .selectFrom('tokenmirror_keys')
      .selectAll()
      .where('hash', 'in', [...byHash.keys()])
      .orderBy('id')
      .execute();
    for (const row of rows) {
      const before = await this.#recordOf(changes, row);
      const ours = byHash.get(row.hash) ?? [];
      for (const period of PERIODS) await addUse(changes, row.id, period, ours, now);
      const last = Math.min(now, latestOf(ours));
      if (last > (row.last_used_at ?? 0))
        await changes.updateTable('tokenmirror_keys').set({ last_used_at: last }).where('id', '=', row.id).execute();
      const record = await this.#recordOf(changes, { ...row, last_used_at: last });
      const { quota } = record;
      if (quota === null) continue;
      const [from, to] = [before, record].map(({ used }) => used[quota.unit] / quota.limit);
      const part = WARNINGS.findLast((each) => (from ?? 0) < each && (to ?? 0) >= each);
      if (part === undefined) continue;
      crossings.push({ record, part });
      if (part === 1) await this.#raise(changes);
    }
    return crossings;
  }

  /** What was applied to a target last; ids of keys. */
  async applied(target: string): Promise<readonly string[]> {
    const row = await this.#database.read((db) =>
      db.selectFrom('tokenmirror_key_targets').select('applied').where('target', '=', target).executeTakeFirst(),
    );
    return row === undefined ? [] : (JSON.parse(row.applied) as string[]);
  }

  /** Forgets targets of a replica that it does not serve any more. */
  async keepTargets(replica: string, targets: readonly string[]): Promise<void> {
    const gone = (await this.targets()).filter(({ target }) => target.startsWith(`${replica} `) && !targets.includes(target));
    for (const { target } of gone)
      await this.#database.change((changes) => changes.deleteFrom('tokenmirror_key_targets').where('target', '=', target).execute());
  }

  async noteApplied(target: string, { applied, revision, problem }: TargetState): Promise<void> {
    const values = { applied: JSON.stringify(applied), revision, at: this.#clock.now(), problem: problem ?? null };
    await this.#database.change((changes) =>
      changes
        .insertInto('tokenmirror_key_targets')
        .values({ target, ...values })
        .onConflict((conflict) => conflict.column('target').doUpdateSet(values))
        .execute(),
    );
  }

  async targets(): Promise<readonly (TargetState & { readonly target: string; readonly at: number })[]> {
    const rows = await this.#database.read((db) => db.selectFrom('tokenmirror_key_targets').selectAll().orderBy('target').execute());
    return rows.map(({ target, applied, revision, at, problem }) => ({
      target,
      applied: JSON.parse(applied) as string[],
      revision,
      at,
      problem: problem ?? undefined,
    }));
  }

  async close(): Promise<void> {
    await this.#database.close();
  }

  #update(actor: Actor, action: string, reference: string, change: (row: Row) => Partial<Omit<Row, 'id' | 'hash'>>): Promise<ApiKey> {
    const work = (): Promise<ApiKey> =>
      this.#change(async (changes) => {
        const row = await this.#find(changes, reference);
        const values = change(row);
        if (Object.keys(values).length === 0) return this.#recordOf(changes, row);
        await changes.updateTable('tokenmirror_keys').set(values).where('id', '=', row.id).execute();
        const record = await this.#recordOf(changes, { ...row, ...values });
        await this.audit.write(changes, actor, action, record, describeChange(values));
        return record;
      });
    return this.audit.audited(actor, action, work, () => this.get(reference));
  }

  /** The update of the revision comes first: it makes changes of other processes wait. */
  #change<R>(work: (changes: Changes) => Promise<R>): Promise<R> {
    return this.#database.change(async (changes) => {
      await this.#raise(changes);
      return work(changes);
    });
  }

  async #raise(changes: Changes): Promise<void> {
    const { value } = await changes
      .selectFrom('tokenmirror_key_meta')
      .select('value')
      .where('name', '=', 'revision')
      .$if(this.isShared, (query) => query.forUpdate())
      .executeTakeFirstOrThrow();
    await changes
      .updateTable('tokenmirror_key_meta')
      .set({ value: String(Number(value) + 1) })
      .where('name', '=', 'revision')
      .execute();
  }

  async #insert(
    changes: Changes,
    actor: Actor,
    action: string,
    wish: Omit<NewKey, 'term' | 'status'> & { readonly key: string; readonly expiresAt: number | null; readonly status?: string },
  ): Promise<ApiKey> {
    const { key, owner, expiresAt, note = '', labels = [], quota = null, status = 'active' } = wish;
    const hash = this.hashOf(key);
    const before = await changes.selectFrom('tokenmirror_keys').selectAll().where('hash', '=', hash).executeTakeFirst();
    if (before !== undefined && before.status !== 'deleted')
      throw new TokenmirrorError('KEY_REFUSED', `this key is registered already, as ${before.id}`, 'Extend or enable that one.');
    const id = before?.id ?? `key_${randomText(10).toLowerCase()}`;
    const row: Row = {
      id,
      hash,
      mask: maskOf(key),
      sealed: this.#box.seal(key, id),
      owner,
      status,
      expires_at: expiresAt,
      note: checkedNote(note),
      labels: JSON.stringify(labels.map(checkedNote)),
      quota: quota === null ? null : JSON.stringify(quota),
      created_at: this.#clock.now(),
      created_by: actor,
      last_used_at: before?.last_used_at ?? null,
      replaced_by: null,
    };
    if (before === undefined) await changes.insertInto('tokenmirror_keys').values(row).execute();
    else await changes.updateTable('tokenmirror_keys').set(row).where('id', '=', id).execute();
    const record = await this.#recordOf(changes, row);
    const end = expiresAt === null ? 'never expires' : `until ${new Date(expiresAt).toISOString()}`;
    await this.audit.write(changes, actor, action, record, `${owner === '' ? 'no owner' : owner}, ${end}`);
    return record;
  }

  async #find(db: Reader, reference: string): Promise<Row> {
    const written = reference.trim();
    const all = db.selectFrom('tokenmirror_keys').selectAll().where('status', '<>', 'deleted');
    const found =
      (await all.where('id', '=', written).executeTakeFirst()) ??
      (await all.where('hash', '=', this.hashOf(written)).executeTakeFirst()) ??
      (await onlyOne(all.where('mask', '=', written).limit(2).execute()));
    if (found !== undefined) return found;
    throw new TokenmirrorError(
      'KEY_UNKNOWN',
      `no API key is registered as ${isKeyId(written) ? written : maskOf(written)}`,
      'See `tokenmirror keys list` for the ids.',
    );
  }

  async #recordOf(db: Reader, row: Row): Promise<ApiKey> {
    const [record] = await this.#recordsOf(db, [row]);
    if (record === undefined) throw new Error('a row without a record');
    return record;
  }

  async #recordsOf(db: Reader, rows: readonly Row[]): Promise<ApiKey[]> {
    const now = this.#clock.now();
    const ids = rows.filter(({ quota }) => quota !== null).map(({ id }) => id);
    const uses = ids.length === 0 ? [] : await db.selectFrom('tokenmirror_key_use').selectAll().where('key_id', 'in', ids).execute();
    const useOf = new Map(uses.map((use) => [`${use.key_id} ${use.period} ${String(use.window_start)}`, use]));
    return rows.map((row): ApiKey => {
      const quota = row.quota === null ? null : (JSON.parse(row.quota) as Quota);
      const use = quota === null ? undefined : useOf.get(`${row.id} ${quota.per} ${String(windowStart(quota.per, now))}`);
      return {
        id: row.id,
        mask: row.mask,
        owner: row.owner,
        status: row.status as ApiKey['status'],
        expiresAt: row.expires_at,
        note: row.note,
        labels: JSON.parse(row.labels) as string[],
        quota,
        createdAt: row.created_at,
        createdBy: row.created_by,
        lastUsedAt: row.last_used_at,
        replacedBy: row.replaced_by,
        used: { requests: use?.requests ?? 0, tokens: use?.tokens ?? 0 },
      };
    });
  }

  #open(row: Row | undefined): string | undefined {
    return row?.sealed === null || row === undefined ? undefined : this.#box.open(row.sealed, row.id);
  }

  /** By itself until it is sealed at the first start: with it a hash can be tried out. @throws TokenmirrorError ENCRYPTION_KEY */
  #hashSecretIn(written: string): Buffer {
    const text = written.includes(':') ? this.#box.open(written, HASH_SECRET) : written;
    if (text !== undefined) return Buffer.from(text, 'base64');
    throw new TokenmirrorError(
      'ENCRYPTION_KEY',
      `the registry of keys in ${this.#database.description} was written with another secret`,
      'Give the encryption key with which it was made, or restore the .secret file beside the database.',
    );
  }

  async #sealAnew(hashSecret: string): Promise<void> {
    await this.#database.change(async (changes) => {
      if (!this.#box.isCurrent(hashSecret))
        await changes
          .updateTable('tokenmirror_key_meta')
          .set({ value: this.#box.seal(this.#hashSecret.toString('base64'), HASH_SECRET) })
          .where('name', '=', HASH_SECRET)
          .where('value', '=', hashSecret)
          .execute();
      const rows = await changes.selectFrom('tokenmirror_keys').selectAll().where('sealed', 'is not', null).execute();
      for (const row of rows) {
        const key = row.sealed === null || this.#box.isCurrent(row.sealed) ? undefined : this.#open(row);
        if (key === undefined) continue;
        await changes
          .updateTable('tokenmirror_keys')
          .set({ sealed: this.#box.seal(key, row.id) })
          .where('id', '=', row.id)
          .where('sealed', '=', row.sealed)
          .execute();
      }
    });
  }
}

export interface TargetState {
  readonly applied: readonly string[];
  readonly revision: number;
  readonly problem: string | undefined;
}

export type { Actor, AuditEntry, Page };

type Reader = Pick<Changes, 'selectFrom'>;

async function onlyOne<T>(found: Promise<readonly T[]>): Promise<T | undefined> {
  const rows = await found;
  return rows.length === 1 ? rows[0] : undefined;
}

async function addUse(changes: Changes, id: string, period: (typeof PERIODS)[number], uses: readonly KeyUse[], now: number): Promise<void> {
  // A clock that was ahead once leaves no window that never comes.
  const latest = windowStart(period, Math.min(now, latestOf(uses)));
  const inWindow = uses.filter(({ at }) => windowStart(period, Math.min(now, at)) === latest);
  const sum = (pick: (use: KeyUse) => number): number => inWindow.reduce((total, use) => total + pick(use), 0);
  const added = { requests: sum(({ requests }) => requests), tokens: sum(({ tokens }) => tokens) };
  const before = await changes
    .selectFrom('tokenmirror_key_use')
    .selectAll()
    .where('key_id', '=', id)
    .where('period', '=', period)
    .executeTakeFirst();
  if (before !== undefined && before.window_start > latest && before.window_start <= windowStart(period, now)) return;
  const isSame = before?.window_start === latest;
  const values = {
    window_start: latest,
    requests: added.requests + (isSame ? before.requests : 0),
    tokens: added.tokens + (isSame ? before.tokens : 0),
  };
  await changes
    .insertInto('tokenmirror_key_use')
    .values({ key_id: id, period, ...values })
    .onConflict((conflict) => conflict.columns(['key_id', 'period']).doUpdateSet(values))
    .execute();
}

function latestOf(uses: readonly KeyUse[]): number {
  return uses.reduce((latest, { at }) => Math.max(latest, at), -Infinity);
}

/** When a key becomes valid, or is not any more, by itself. */
function changeOf(record: ApiKey, now: number): number | undefined {
  const state = stateOf(record, now);
  if (state === 'valid') return record.expiresAt ?? undefined;
  if (state !== 'exhausted' || record.quota === null) return undefined;
  const end = windowEnd(record.quota.per, now);
  return end === undefined ? (record.expiresAt ?? undefined) : Math.min(end, record.expiresAt ?? Infinity);
}

function isIn(filter: Filter, state: KeyState): boolean {
  return filter === 'all' ? state !== 'deleted' : filter === 'active' ? state === 'valid' : filter === state;
}

function checkedOwner(owner: string): string {
  const written = owner.trim().toLowerCase();
  if (written === '' || (EMAIL.test(written) && !CONTROL.test(written))) return written;
  throw new TokenmirrorError('KEY_INVALID', 'the owner is no e-mail address', 'Write it as name@example.com.');
}

function checkedNote(note: string): string {
  if (note.length <= LONGEST_NOTE && !CONTROL.test(note)) return note;
  throw new TokenmirrorError(
    'KEY_INVALID',
    'the note, or a label, cannot be used',
    `Write one line of at most ${String(LONGEST_NOTE)} characters.`,
  );
}

function refusePast(at: number | null, now: number): void {
  if (at !== null && at <= now)
    throw new TokenmirrorError('KEY_INVALID', 'the term ends in the past', 'Give a later instant; to end a key now, disable it.');
}

function describeChange({ status, expires_at: expiresAt, ...rest }: Partial<Row>): string {
  const words = [
    ...(status === undefined ? [] : [status]),
    ...(expiresAt === undefined ? [] : [expiresAt === null ? 'never expires' : `until ${new Date(expiresAt).toISOString()}`]),
    ...Object.keys(rest).filter((name) => name !== 'sealed'),
  ];
  return words.join(', ');
}
