import {
  TokenmirrorError,
  type Change,
  type ClusterIdentity,
  type Cursor,
  type DocumentKey,
  type Entry,
  type Lineage,
  type Listing,
  type Revision,
  type StoreKey,
  type TokenStore,
  type Version,
  type WriteOutcome,
} from '@tokenmirror/core';
import type { SimProcess, VirtualTime } from './virtual-time.js';

interface Row {
  readonly revision: number;
  readonly content: string | null;
  readonly lineage: Lineage;
}

interface State {
  readonly rows: Map<StoreKey, Row>;
  sequence: number;
}

const CLUSTER: ClusterIdentity = { id: 'simulated', key: 'simulated-key' };
const TIMEOUT_MS = 3000;

/** What the network does to one connection, in chances of one request. */
export interface Weather {
  isCut: boolean;
  lostRequests: number;
  lostReplies: number;
}

/** The server: its state, its clock, its outages, and copies of its state to go back to. */
export class SimServer {
  state: State = { rows: new Map(), sequence: 0 };
  isDown = false;
  /** Besides those by which replicas say that they are there. */
  writes = 0;
  requests = 0;
  /** Told of every write. */
  wrote: (key: StoreKey, content: string | null, author: string) => void = () => undefined;
  readonly kept = new Map<DocumentKey, { readonly at: number; readonly content: string; readonly reason: string }[]>();
  readonly #time: VirtualTime;
  readonly #random: () => number;
  readonly #listeners = new Set<{ readonly process: SimProcess; readonly weather: Weather; readonly hint: () => void }>();

  constructor(time: VirtualTime, random: () => number) {
    this.#time = time;
    this.#random = random;
  }

  copy(): State {
    return { rows: new Map(this.state.rows), sequence: this.state.sequence };
  }

  restore({ rows, sequence }: State): void {
    this.state = { rows: new Map(rows), sequence };
  }

  connect(process: SimProcess, weather: Weather): TokenStore {
    const time = this.#time;
    const call = <T>(work: () => T): Promise<T> =>
      new Promise((resolve, reject) => {
        const lost = (): void => {
          time.after(
            TIMEOUT_MS,
            () => {
              reject(new TokenmirrorError('STORE_UNREACHABLE', 'the network is bad', 'Wait.'));
            },
            process,
          );
        };
        if (weather.isCut || this.#random() < weather.lostRequests) {
          lost();
          return;
        }
        time.after(this.#latency(), () => {
          if (this.isDown) {
            lost();
            return;
          }
          this.requests += 1;
          const result = work();
          if (weather.isCut || this.#random() < weather.lostReplies) lost();
          else
            time.after(
              this.#latency(),
              () => {
                resolve(result);
              },
              process,
            );
        });
      });
    return {
      description: 'simulated',
      open: () => Promise.resolve(CLUSTER),
      now: () => call(() => this.now),
      list: (since) => call(() => this.#list(since)),
      read: (keys) => call(() => this.#read(keys)),
      write: (changes, author, how) =>
        call(() =>
          how === 'together' && !changes.every((change) => this.#fits(change))
            ? changes.map(() => ({ status: 'refused' as const }))
            : changes.map((change) => this.#write(change, author)),
        ),
      close: () => Promise.resolve(),
      watch: (hint) => {
        const listener = { process, weather, hint };
        this.#listeners.add(listener);
        return Promise.resolve(() => {
          this.#listeners.delete(listener);
          return Promise.resolve();
        });
      },
      history: {
        versions: (key) =>
          call(() =>
            (this.kept.get(key) ?? []).map(({ at, reason }, n): Version => ({ id: String(n), at, reason, author: undefined })).reverse(),
          ),
        content: (key, id) => call(() => this.kept.get(key)?.[Number(id)]?.content),
        archive: (key, content, reason) =>
          call(() => {
            this.#archive(key, content, reason);
          }),
      },
    };
  }

  get now(): number {
    return EPOCH + this.#time.now;
  }

  content(key: StoreKey): string | undefined {
    return this.state.rows.get(key)?.content ?? undefined;
  }

  #latency(): number {
    return 0.3 + this.#random() * (this.#random() < 0.02 ? 400 : 3);
  }

  #list(since?: Cursor): Listing {
    const after = since === undefined ? undefined : Number(since);
    const complete = after === undefined || after > this.state.sequence;
    const rows = [...this.state.rows].filter(([, { revision }]) => complete || revision > after);
    const entries = rows.map(([name, row]) => ({
      name,
      state: row.content === null ? ('deleted' as const) : ('live' as const),
      revision: revisionOf(row),
    }));
    return { entries, cursor: String(this.state.sequence) as Cursor, complete };
  }

  #read(keys: readonly StoreKey[]): ReadonlyMap<StoreKey, Entry> {
    return new Map(
      keys.flatMap((key) => {
        const row = this.state.rows.get(key);
        if (row === undefined) return [];
        const known = { key, revision: revisionOf(row), lineage: row.lineage };
        return [[key, row.content === null ? { state: 'deleted', ...known } : { state: 'live', ...known, content: row.content }] as const];
      }),
    );
  }

  #fits({ key, expected }: Change): boolean {
    const before = this.state.rows.get(key);
    return (before === undefined ? 'absent' : revisionOf(before)) === expected;
  }

  #write(change: Change, author: string): WriteOutcome {
    if (!this.#fits(change)) return { status: 'refused' };
    const { key, content, lineage } = change;
    const { rows } = this.state;
    const before = rows.get(key);
    this.state.sequence += 1;
    if (!key.startsWith('replicas/')) this.writes += 1;
    if (before?.content != null && key.startsWith('auths/')) this.#archive(key as DocumentKey, before.content, 'replaced');
    const row = { revision: this.state.sequence, content, lineage };
    rows.set(key, row);
    this.wrote(key, content, author);
    for (const { process, weather, hint } of this.#listeners) {
      if (!weather.isCut && !this.isDown && !process.isDead) this.#time.after(this.#latency(), hint, process);
    }
    return { status: 'written', revision: revisionOf(row) };
  }

  #archive(key: DocumentKey, content: string, reason: string): void {
    const kept = this.kept.get(key) ?? [];
    kept.push({ at: this.now, content, reason });
    this.kept.set(key, kept);
  }
}

/** When the simulated world begins, by a clock that is right. */
export const EPOCH = Date.UTC(2026, 0, 1);

function revisionOf({ revision }: Row): Revision {
  return String(revision) as Revision;
}
