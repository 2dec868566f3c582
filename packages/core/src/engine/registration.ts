import type { CustodySetting } from '../custody/cluster-mode.js';
import { readRecordKey, recordKey, type RecordKey } from '../documents/document-key.js';
import { TokenmirrorError } from '../errors.js';
import { checkFormat, CURRENT_FORMAT, type FormatStamp } from '../format-version.js';
import type { TokenStore } from '../ports/token-store.js';

/** What a replica tells the others of itself. */
export interface ReplicaNotes {
  readonly host: string;
  /** `peer`: a further directory of another replica, whose files are always sealed. */
  readonly custody: CustodySetting | 'peer';
  readonly isRefresher: boolean;
}

/** A replica as the store knows it. Times are by the store's clock, in ms since the epoch. */
export interface KnownReplica extends ReplicaNotes {
  readonly id: string;
  readonly seen?: number;
  readonly stopped?: number;
}

interface ReplicaRecord extends FormatStamp, Partial<ReplicaNotes> {
  readonly session: string;
  readonly host: string;
  readonly seen?: number;
  readonly stopped?: number;
  /** The session that was found in the place of this one, which took the record back. */
  readonly displaced?: string;
}

/**
 * Finds out when two daemons run under one id, which happens when a machine or a directory is cloned. Each start writes a session of
 * its own into the replica's record. A daemon that finds another session there puts its own back and names the other one, which
 * thereby learns that it came second, and stops. No clock and no heartbeat: a crashed predecessor never answers.
 */
export class Registration {
  readonly #store: TokenStore;
  readonly #replicaId: string;
  readonly #session: string;
  readonly #notes: ReplicaNotes;
  readonly key: RecordKey;

  constructor(store: TokenStore, replicaId: string, session: string, notes: ReplicaNotes) {
    this.#store = store;
    this.#replicaId = replicaId;
    this.#session = session;
    this.#notes = notes;
    this.key = recordKey('replicas', replicaId);
  }

  async register(): Promise<void> {
    await this.#write(() => ({}));
  }

  /**
   * To be called when the record may have changed.
   * @throws TokenmirrorError REPLICA_DUPLICATE when this daemon is the one that has to stop.
   */
  async check(): Promise<void> {
    await this.#write((other) => {
      if (other?.session === this.#session) return undefined;
      if (other?.displaced === this.#session) throw this.#duplicate(other);
      return other === undefined ? {} : { displaced: other.session };
    });
  }

  /** Says that this replica is still there, or that it stopped. */
  async touch(stopped = false): Promise<void> {
    const now = await this.#store.now();
    await this.#write((other) => (other?.session === this.#session ? (stopped ? { stopped: now } : {}) : undefined));
  }

  async #write(more: (other: ReplicaRecord | undefined) => Pick<ReplicaRecord, 'displaced' | 'stopped'> | undefined): Promise<void> {
    for (;;) {
      const entry = (await this.#store.read([this.key])).get(this.key);
      const other = entry?.state === 'live' ? parseRecord(entry.content, this.key) : undefined;
      const added = more(other);
      if (added === undefined) return;
      const seen = await this.#store.now();
      const record: ReplicaRecord = { ...CURRENT_FORMAT, session: this.#session, ...this.#notes, seen, ...added };
      const change = { key: this.key, expected: entry?.revision ?? ('absent' as const), content: JSON.stringify(record), lineage: [] };
      const [outcome] = await this.#store.write([change], this.#replicaId);
      if (outcome?.status === 'written') return;
    }
  }

  #duplicate(other: ReplicaRecord): TokenmirrorError {
    return new TokenmirrorError(
      'REPLICA_DUPLICATE',
      `another daemon, on ${other.host}, runs under the same replica id ${this.#replicaId}`,
      'This auth directory is a copy of the other one. Delete .tokenmirror-replica in it and start again; it then gets an id of its own.',
    );
  }
}

/** Every replica that the store knows. */
export async function readReplicas(store: TokenStore): Promise<readonly KnownReplica[]> {
  const keys = (await store.list()).entries.flatMap(({ name, state }) => {
    const key = readRecordKey(name);
    return state === 'live' && key?.startsWith('replicas/') === true ? [key] : [];
  });
  const entries = keys.length === 0 ? new Map<RecordKey, never>() : await store.read(keys);
  return keys.flatMap((key) => {
    const entry = entries.get(key);
    const record = entry?.state === 'live' ? parseRecord(entry.content, key) : undefined;
    if (record === undefined) return [];
    const { host, custody = 'off', isRefresher = false, seen, stopped } = record;
    const times = { ...(seen === undefined ? {} : { seen }), ...(stopped === undefined ? {} : { stopped }) };
    return [{ id: key.slice('replicas/'.length), host, custody, isRefresher, ...times }];
  });
}

/** @throws TokenmirrorError FORMAT_NEWER */
function parseRecord(content: string, key: RecordKey): ReplicaRecord | undefined {
  let record: Partial<ReplicaRecord>;
  try {
    record = JSON.parse(content) as Partial<ReplicaRecord>;
  } catch {
    return undefined;
  }
  checkFormat(record, `the record ${key} in the store`);
  return typeof record.session === 'string' && typeof record.host === 'string' ? (record as ReplicaRecord) : undefined;
}
