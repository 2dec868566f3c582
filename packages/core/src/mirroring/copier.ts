import { readDocumentKey, type DocumentKey } from '../documents/document-key.js';
import { Hasher } from '../documents/hasher.js';
import { TokenmirrorError } from '../errors.js';
import { isMassDeletion } from '../planning/mass-change-guard.js';
import type { Change, ClusterIdentity, Entry, Listing, Revision, TokenStore } from '../ports/token-store.js';
import { isUsable, objection, planCopy, type CopyRules } from './copy-plan.js';
import type { MirrorBoard } from './mirror-board.js';
import { claimMirror } from './mirror-claim.js';

export interface CopierParts {
  readonly store: TokenStore;
  readonly authority: TokenStore;
  readonly cluster: ClusterIdentity;
  readonly replicaId: string;
  /** The other mirrors that can be asked. */
  readonly others: () => readonly TokenStore[];
  readonly board: MirrorBoard;
}

export interface CopierOptions {
  readonly maxDocumentBytes: number;
  /** Lets a mass deletion through. */
  readonly force: boolean;
  /** Takes over a mirror of another cluster. */
  readonly adopt: boolean;
}

/** A change of a document; records of ours are not mirrored. */
export interface DocumentChange extends Change {
  readonly key: DocumentKey;
}

/** What a copy leaves to be done. */
export interface Remainder {
  /** Documents to be looked at again. */
  readonly again: readonly DocumentKey[];
  /** Deletions that the mirror has to follow, to be judged together. */
  readonly deletions: readonly DocumentChange[];
}

/** Carries out what is planned between an authority and a mirror. The mirror is always read first: what changes in between is then refused by its compare-and-set. */
export class Copier {
  readonly #parts: CopierParts;
  readonly #options: CopierOptions;
  readonly #rules: CopyRules;
  /** Revisions of both sides that were found to belong together. */
  readonly #matched = new Map<DocumentKey, { readonly authority: Revision | undefined; readonly mirror: Revision | undefined }>();
  /** What is live in the mirror. */
  #live = new Set<DocumentKey>();
  readonly #frozen = new Set<DocumentKey>();

  constructor(parts: CopierParts, options: CopierOptions) {
    this.#parts = parts;
    this.#options = options;
    this.#rules = { hasher: new Hasher(parts.cluster.key), maxDocumentBytes: options.maxDocumentBytes };
  }

  /** @throws TokenmirrorError STORE_INVALID, CLUSTER_FOREIGN and those of the store */
  async open(): Promise<void> {
    const { store, cluster, replicaId } = this.#parts;
    const identity = await store.open('create');
    if (identity?.id === cluster.id) {
      throw new TokenmirrorError(
        'STORE_INVALID',
        `the mirror ${store.description} is the authority itself`,
        'Name another place, or another prefix.',
      );
    }
    const isFree = async (): Promise<boolean> => this.#options.adopt || !(await this.#isAuthorityInUse());
    await claimMirror(store, { cluster: cluster.id, author: replicaId, isFree });
  }

  /** Every document that differs from what was last matched. */
  async differing(): Promise<DocumentKey[]> {
    const here = await this.#parts.store.list();
    const there = await ofAuthority(this.#parts.authority.list());
    const [mirror, authority] = [revisionsIn(here), revisionsIn(there)];
    this.#live = liveIn(here);
    return [...new Set([...authority.keys(), ...mirror.keys()])].filter((key) => {
      const matched = this.#matched.get(key);
      return matched?.authority !== authority.get(key) || matched?.mirror !== mirror.get(key) || this.#frozen.has(key);
    });
  }

  async copy(keys: readonly DocumentKey[]): Promise<Remainder> {
    const here = await this.#parts.store.read(keys);
    const there = await ofAuthority(this.#parts.authority.read(keys));
    const [writes, deletions, recoveries]: [DocumentChange[], DocumentChange[], DocumentChange[]] = [[], [], []];
    for (const key of keys) {
      const [original, copy] = [there.get(key), here.get(key)];
      const planned = planCopy(key, original, copy, this.#rules);
      this.#parts.board.planned(key, planned);
      if (planned.kind !== 'delete') this.#thaw(key);
      const expected = copy?.revision ?? ('absent' as const);
      if (planned.kind === 'write') writes.push({ key, expected, content: planned.content, lineage: planned.lineage });
      else if (planned.kind === 'delete') deletions.push({ key, expected, content: null, lineage: planned.lineage });
      else if (planned.kind === 'recover')
        recoveries.push({ key, expected: original?.revision ?? 'absent', content: planned.content, lineage: planned.lineage });
      else this.#match(key, original, copy);
    }
    return { again: [...(await this.#write(writes, there)), ...(await this.#recover(recoveries, here))], deletions };
  }

  /** Follows deletions, unless there are so many that it looks like an accident: then the mirror keeps them. Returns what to look at again. */
  async delete(deletions: readonly DocumentChange[]): Promise<DocumentKey[]> {
    const { store, replicaId, board } = this.#parts;
    const keys = deletions.map(({ key }) => key);
    const all = new Set([...this.#frozen, ...keys]);
    if (!this.#options.force && isMassDeletion(all.size, Math.max(this.#live.size, all.size))) {
      for (const key of all) this.#frozen.add(key);
      board.frozen(this.#frozen);
      return [];
    }
    if (deletions.length === 0) return [];
    await store.write(deletions, replicaId);
    for (const key of keys) this.#live.delete(key);
    return keys;
  }

  /** Writes and reads back. Returns what somebody else wrote meanwhile. */
  async #write(changes: readonly DocumentChange[], there: ReadonlyMap<string, Entry>): Promise<DocumentKey[]> {
    if (changes.length === 0) return [];
    const { store, replicaId, board } = this.#parts;
    const outcomes = await store.write(changes, replicaId);
    const keys = changes.map(({ key }) => key);
    const readBack = await store.read(keys);
    return keys.filter((key, n) => {
      const [outcome, original, copy] = [outcomes[n], there.get(key), readBack.get(key)];
      if (outcome?.status === 'unacceptable') board.refused(key, outcome.reason);
      else if (outcome?.status !== 'written' || (copy !== undefined && copy.revision !== outcome.revision)) return true;
      else if (planCopy(key, original, copy, this.#rules).kind !== 'nothing')
        board.refused(key, 'the mirror did not give back what was written');
      else this.#live.add(key);
      this.#match(key, original, copy);
      return false;
    });
  }

  /** Puts back into the authority what it lacks without a tombstone, unless another mirror knows better. Returns what to look at again. */
  async #recover(changes: readonly DocumentChange[], here: ReadonlyMap<string, Entry>): Promise<DocumentKey[]> {
    if (changes.length === 0) return [];
    const { authority, replicaId, others, board } = this.#parts;
    const keys = changes.map(({ key }) => key);
    const elsewhere = await Promise.all(others().map((other) => other.read(keys).catch(() => new Map<string, Entry>())));
    const welcome = changes.filter(({ key }) => {
      const copy = here.get(key);
      if (copy?.state !== 'live') return false;
      const reason = elsewhere.map((entries) => objection(key, copy, entries.get(key), this.#rules)).find((found) => found !== undefined);
      if (reason !== undefined) board.refused(key, reason);
      return reason === undefined;
    });
    const outcomes = await ofAuthority(authority.write(welcome, replicaId));
    return welcome.flatMap(({ key }, n) => {
      const outcome = outcomes[n];
      if (outcome?.status === 'written') board.recovered(key);
      if (outcome?.status !== 'unacceptable') return [key];
      board.refused(key, `the authority cannot keep it: ${outcome.reason}`);
      return [];
    });
  }

  async #isAuthorityInUse(): Promise<boolean> {
    const { authority } = this.#parts;
    const keys = [...liveIn(await ofAuthority(authority.list()))];
    const entries = await ofAuthority(authority.read(keys));
    return keys.some((key) => isUsable(key, entries.get(key), this.#rules));
  }

  #thaw(key: DocumentKey): void {
    if (this.#frozen.delete(key)) this.#parts.board.frozen(this.#frozen);
  }

  #match(key: DocumentKey, original: Entry | undefined, copy: Entry | undefined): void {
    this.#matched.set(key, { authority: original?.revision, mirror: copy?.revision });
  }
}

/** The authority is out of reach, which the engine sees for itself: no trouble of the mirror's. */
export class AuthorityTrouble extends Error {}

async function ofAuthority<T>(asking: Promise<T>): Promise<T> {
  try {
    return await asking;
  } catch (cause) {
    throw new AuthorityTrouble('the authority is out of reach', { cause });
  }
}

function revisionsIn({ entries }: Listing): ReadonlyMap<DocumentKey, Revision> {
  return new Map(
    entries.flatMap(({ name, state, revision }) => {
      const reading = readDocumentKey(name);
      return reading.ok && state !== 'absent' ? [[reading.key, revision]] : [];
    }),
  );
}

function liveIn({ entries }: Listing): Set<DocumentKey> {
  return new Set(
    entries.flatMap(({ name, state }) => {
      const reading = readDocumentKey(name);
      return reading.ok && state === 'live' ? [reading.key] : [];
    }),
  );
}
