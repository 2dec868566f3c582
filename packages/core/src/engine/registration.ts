import { recordKey, type RecordKey } from '../documents/document-key.js';
import { TokenmirrorError } from '../errors.js';
import { checkFormat, CURRENT_FORMAT, type FormatStamp } from '../format-version.js';
import type { TokenStore } from '../ports/token-store.js';

/** What a replica says of itself in the store. */
interface ReplicaRecord extends FormatStamp {
  readonly session: string;
  readonly host: string;
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
  readonly #session: { readonly id: string; readonly host: string };
  readonly key: RecordKey;

  constructor(store: TokenStore, replicaId: string, session: { readonly id: string; readonly host: string }) {
    this.#store = store;
    this.#replicaId = replicaId;
    this.#session = session;
    this.key = recordKey('replicas', replicaId);
  }

  async register(): Promise<void> {
    await this.#writeOver(() => undefined);
  }

  /**
   * To be called when the record may have changed.
   * @throws TokenmirrorError REPLICA_DUPLICATE when this daemon is the one that has to stop.
   */
  async check(): Promise<void> {
    await this.#writeOver((other) => {
      if (other.displaced === this.#session.id) throw this.#duplicate(other);
      return other.session;
    });
  }

  async #writeOver(displacedOf: (other: ReplicaRecord) => string | undefined): Promise<void> {
    for (;;) {
      const entry = (await this.#store.read([this.key])).get(this.key);
      const other = entry?.state === 'live' ? parseRecord(entry.content, this.key) : undefined;
      if (other?.session === this.#session.id) return;
      const displaced = other === undefined ? undefined : displacedOf(other);
      const record: ReplicaRecord = {
        ...CURRENT_FORMAT,
        session: this.#session.id,
        host: this.#session.host,
        ...(displaced === undefined ? {} : { displaced }),
      };
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
