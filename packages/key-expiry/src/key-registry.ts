import { TokenmirrorError, type Clock } from '@tokenmirror/core';
import type { Database } from '@tokenmirror/database';
import { checkKey, generateKey, isSentinel, isTemplate, maskOf, randomText, stateOf, type ApiKey, type KeyState } from './api-key.js';
import { AuditLog, type Actor, type Page } from './audit-log.js';
import type { BoxSecret } from './key-box.js';
import { changeOf, findRow, recordOf, recordsOf } from './key-rows.js';
import { KeySecrets } from './key-secrets.js';
import { checkedNote, checkedOwner, refusePast } from './key-wish.js';
import type { Quota } from './quota.js';
import { holdRevision, raiseRevision, revisionOf } from './revision.js';
import type { Changes, KeyRow, KeyTables, Reader } from './schema.js';
import { SyncTargets } from './sync-targets.js';
import { endOf, type Term } from './term.js';
import { countUses, type KeyUse, type QuotaCrossing } from './use-count.js';

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

/** API keys with an owner, a term and a limit. Every change is one transaction with its line in the audit log, and raises the revision. */
export class KeyRegistry {
  readonly #database: Database<KeyTables>;
  readonly #clock: Clock;
  readonly secrets: KeySecrets;
  readonly audit: AuditLog;
  /** What was applied to each CLIProxyAPI. */
  readonly targets: SyncTargets;

  private constructor({ database, clock }: RegistryParts, secrets: KeySecrets) {
    this.#database = database;
    this.#clock = clock;
    this.secrets = secrets;
    this.audit = new AuditLog(database, clock);
    this.targets = new SyncTargets(database, clock);
  }

  /** The tables have to be there. Clear keys under an older secret are encrypted anew. @throws TokenmirrorError STORE_UNREACHABLE, ENCRYPTION_KEY */
  static async open(parts: RegistryParts): Promise<KeyRegistry> {
    return new KeyRegistry(parts, await KeySecrets.open(parts.database, parts.secrets));
  }

  get description(): string {
    return this.#database.description;
  }

  /** True where every replica uses this registry. */
  get isShared(): boolean {
    return this.#database.isShared;
  }

  /** Rises with every change that the sync should see. */
  revision(): Promise<number> {
    return this.#database.read(revisionOf);
  }

  /** Every key, deleted ones included, by its hash. */
  async byHash(): Promise<ReadonlyMap<string, ApiKey>> {
    return this.#database.read(async (db) => {
      const rows = await db.selectFrom('tokenmirror_keys').selectAll().execute();
      const records = await recordsOf(db, rows, this.#clock.now());
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
    return this.#database.read(async (db) => recordOf(db, await this.#find(db, reference), this.#clock.now()));
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
      const records = await recordsOf(db, rows, this.#clock.now());
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
        const old = await recordOf(changes, row, this.#clock.now());
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
          if (known.has(this.secrets.hashOf(key)) || key === '' || isTemplate(key) || isSentinel(key)) continue;
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
            if (deleted.has(this.secrets.hashOf(wish.key)))
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
    await this.#database.change((changes) => raiseRevision(changes, this.isShared));
    return this.revision();
  }

  /** Keys in clear, with what is known of them: for an export that can be imported again. */
  async inClear(): Promise<readonly (ApiKey & { readonly key: string | undefined })[]> {
    return this.#database.read(async (db) => {
      const rows = await db.selectFrom('tokenmirror_keys').selectAll().where('status', '<>', 'deleted').orderBy('created_at').execute();
      const records = await recordsOf(db, rows, this.#clock.now());
      return records.map((record, n) => ({ ...record, key: this.secrets.unseal(rows[n]?.sealed, record.id) }));
    });
  }

  async wanted(): Promise<Wanted> {
    const now = this.#clock.now();
    return this.#database.read(async (db) => {
      const revision = await revisionOf(db);
      const rows = await db.selectFrom('tokenmirror_keys').selectAll().orderBy('created_at').orderBy('id').execute();
      const records = await recordsOf(db, rows, this.#clock.now());
      const keys = records.map((record, n): KnownKey => {
        const isWanted = stateOf(record, now) === 'valid';
        const { id, mask, expiresAt } = record;
        return {
          id,
          hash: rows[n]?.hash ?? '',
          mask,
          isWanted,
          expiresAt,
          key: isWanted ? this.secrets.unseal(rows[n]?.sealed, record.id) : undefined,
        };
      });
      const changes = records.map((record) => changeOf(record, now)).filter((at): at is number => at !== undefined);
      return {
        revision,
        sentinel: this.secrets.sentinel,
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
      const records = await recordsOf(db, rows, this.#clock.now());
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
      const records = await recordsOf(db, rows, this.#clock.now());
      return records.filter((key): key is ApiKey & { expiresAt: number } => stateOf(key, now) === 'valid');
    });
  }

  /** Makes other processes that change the database wait for this transaction. */
  hold(changes: Changes): Promise<void> {
    return holdRevision(changes, this.isShared);
  }

  /** Counts what of each key was used, as a part of somebody else's transaction in the same database. */
  countWithin(changes: Changes, uses: readonly KeyUse[]): Promise<readonly QuotaCrossing[]> {
    const { isShared, secrets } = this;
    return countUses(changes, { now: this.#clock.now(), isShared, hashOf: (key) => secrets.hashOf(key) }, uses);
  }

  async close(): Promise<void> {
    await this.#database.close();
  }

  #update(actor: Actor, action: string, reference: string, change: (row: KeyRow) => Partial<Omit<KeyRow, 'id' | 'hash'>>): Promise<ApiKey> {
    const work = (): Promise<ApiKey> =>
      this.#change(async (changes) => {
        const row = await this.#find(changes, reference);
        const values = change(row);
        if (Object.keys(values).length === 0) return recordOf(changes, row, this.#clock.now());
        await changes.updateTable('tokenmirror_keys').set(values).where('id', '=', row.id).execute();
        const record = await recordOf(changes, { ...row, ...values }, this.#clock.now());
        await this.audit.write(changes, actor, action, record, describeChange(values));
        return record;
      });
    return this.audit.audited(actor, action, work, () => this.get(reference));
  }

  /** The update of the revision comes first: it makes changes of other processes wait. */
  #change<R>(work: (changes: Changes) => Promise<R>): Promise<R> {
    return this.#database.change(async (changes) => {
      await raiseRevision(changes, this.isShared);
      return work(changes);
    });
  }

  #find(db: Reader, reference: string): Promise<KeyRow> {
    return findRow(db, reference, (key) => this.secrets.hashOf(key));
  }

  async #insert(
    changes: Changes,
    actor: Actor,
    action: string,
    wish: Omit<NewKey, 'term' | 'status'> & { readonly key: string; readonly expiresAt: number | null; readonly status?: string },
  ): Promise<ApiKey> {
    const { key, owner, expiresAt, note = '', labels = [], quota = null, status = 'active' } = wish;
    const hash = this.secrets.hashOf(key);
    const before = await changes.selectFrom('tokenmirror_keys').selectAll().where('hash', '=', hash).executeTakeFirst();
    if (before !== undefined && before.status !== 'deleted')
      throw new TokenmirrorError('KEY_REFUSED', `this key is registered already, as ${before.id}`, 'Extend or enable that one.');
    const id = before?.id ?? `key_${randomText(10).toLowerCase()}`;
    const row: KeyRow = {
      id,
      hash,
      mask: maskOf(key),
      sealed: this.secrets.seal(key, id),
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
    const record = await recordOf(changes, row, this.#clock.now());
    const end = expiresAt === null ? 'never expires' : `until ${new Date(expiresAt).toISOString()}`;
    await this.audit.write(changes, actor, action, record, `${owner === '' ? 'no owner' : owner}, ${end}`);
    return record;
  }
}

function isIn(filter: Filter, state: KeyState): boolean {
  return filter === 'all' ? state !== 'deleted' : filter === 'active' ? state === 'valid' : filter === state;
}

function describeChange({ status, expires_at: expiresAt, ...rest }: Partial<KeyRow>): string {
  const words = [
    ...(status === undefined ? [] : [status]),
    ...(expiresAt === undefined ? [] : [expiresAt === null ? 'never expires' : `until ${new Date(expiresAt).toISOString()}`]),
    ...Object.keys(rest).filter((name) => name !== 'sealed'),
  ];
  return words.join(', ');
}
