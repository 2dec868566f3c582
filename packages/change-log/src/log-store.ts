import { setTimeout as delay } from 'node:timers/promises';
import {
  DEFAULT_HISTORY_LENGTH,
  readDocumentKey,
  TokenmirrorError,
  type Change,
  type ClusterIdentity,
  type Cursor,
  type DocumentKey,
  type Entry,
  type EntrySummary,
  type History,
  type Listing,
  type Revision,
  type StoreKey,
  type TokenStore,
  type Version,
  type WriteOutcome,
} from '@tokenmirror/core';
import { ChangeLog, digestOf, LARGEST_RECORD, LONGEST_RECORD, type IndexEntry } from './change-log.js';
import { ClusterFile } from './cluster-file.js';
import type { PlainPlace, StorePlace } from './log-place.js';
import { PlainCopies } from './plain-copies.js';

/** Tries to append while others do too; the later ones after a pause. */
const APPEND_TRIES = 200;
const STEP_BACK_MS = 50;

/** The author of changes that were found in the plain files. */
const FOREIGN = 'somebody else';

/** A log of changes as the truth, and the documents as plain files beside it, kept in any place that can make a file once. */
export class LogStore implements TokenStore {
  readonly description: string;
  readonly #place: StorePlace;
  readonly #cluster: ClusterFile;
  readonly #log: ChangeLog;
  readonly #copies: PlainCopies;
  #mode: 'create' | 'look' = 'look';
  /** Who only looks leaves no trace; who has written anything tells the others. */
  #announces = false;
  #isBehind = true;
  #turn: Promise<unknown> = Promise.resolve();
  readonly history: History;

  constructor(place: StorePlace, historyLength = DEFAULT_HISTORY_LENGTH) {
    this.description = place.description;
    this.#place = place;
    this.#cluster = new ClusterFile(place.log, place.description);
    this.#log = new ChangeLog(place.log, { shown: place.description, historyLength, stampFor: place.plain.stampFor });
    this.#copies = new PlainCopies(place.plain, this.#log, place.comparedEveryMs);
    this.history = {
      versions: (key) => this.#inTurn(() => this.#versions(key)),
      content: (key, id) => this.#inTurn(() => this.#contentOf(key, id)),
      archive: (key, content, reason, author) => this.#inTurn(() => this.#archive(key, content, reason, author)),
    };
  }

  open(mode: 'create' | 'look'): Promise<ClusterIdentity | undefined> {
    return this.#inTurn(async () => {
      this.#mode = mode;
      this.#announces = mode === 'create';
      if (mode === 'create') {
        await this.#place.log.prepare();
        await this.#cluster.create();
      }
      this.#isBehind = true;
      return this.#cluster.open();
    });
  }

  list(since?: Cursor): Promise<Listing> {
    return this.#inTurn(async () => {
      if (this.#cluster.identity === undefined) return this.#listPlain();
      await this.#catchUp();
      if (this.#mode === 'create') await this.#takeForeignEdits(since === undefined);
      const [epoch, position] = since?.split(' ') ?? [];
      const complete = epoch !== this.#log.epoch;
      const after = complete ? 0 : Number(position);
      const entries: EntrySummary[] = [];
      for (const [name, entry] of this.#log.index) {
        if (entry.sequence > after) entries.push({ name, state: entry.state, revision: revisionOf(entry) });
      }
      return { entries, cursor: `${this.#log.epoch} ${String(this.#log.head)}` as Cursor, complete };
    });
  }

  read(keys: readonly StoreKey[]): Promise<ReadonlyMap<StoreKey, Entry>> {
    return this.#inTurn(() => (this.#cluster.identity === undefined ? this.#readPlain(keys) : this.#readLogged(keys)));
  }

  write(changes: readonly Change[], author: string, how?: 'together'): Promise<readonly WriteOutcome[]> {
    return this.#inTurn(async () => {
      const outcomes: WriteOutcome[] = [];
      const copying: Promise<void>[] = [];
      for (const record of how === 'together' ? [changes] : recordsOf(changes)) {
        outcomes.push(...(await this.#writeRecord(record, author, how, copying)));
      }
      await Promise.all(copying);
      return outcomes;
    });
  }

  async now(): Promise<number> {
    try {
      return await this.#place.log.now();
    } catch (error) {
      throw this.#place.explain(error);
    }
  }

  async close(): Promise<void> {
    await this.#turn;
  }

  /** Something happened to the plain file of this document. */
  protected suspect(key: DocumentKey): void {
    this.#copies.suspect(key);
  }

  async #writeRecord(
    changes: readonly Change[],
    author: string,
    how: 'together' | undefined,
    copying: Promise<void>[],
  ): Promise<readonly WriteOutcome[]> {
    const objections = new Map(changes.map(({ key }) => [key, this.#place.objection(key)]));
    for (let attempt = 1; ; attempt += 1) {
      await this.#catchUp();
      const accepted = new Set<StoreKey>();
      const written = changes.map((change) => {
        const isFirst = !accepted.has(change.key);
        const now = this.#log.index.get(change.key);
        const fits =
          isFirst && change.expected === (now === undefined ? 'absent' : revisionOf(now)) && objections.get(change.key) === undefined;
        if (fits) accepted.add(change.key);
        return fits;
      });
      const refusal = (key: StoreKey): WriteOutcome => {
        const reason = objections.get(key);
        return reason === undefined ? { status: 'refused' } : { status: 'unacceptable', reason };
      };
      if (accepted.size === 0 || (how === 'together' && !written.every(Boolean))) return changes.map(({ key }) => refusal(key));
      const logged = changes.filter((_, index) => written[index]).map(({ key, content, lineage }) => ({ key, content, lineage }));
      const expected = new Map([...accepted].map((key) => [key, this.#copies.expected(key)]));
      if (!(await this.#append({ at: Date.now(), author, changes: logged }))) {
        await this.#stepBack(attempt);
        continue;
      }
      copying.push(this.#copies.copyOut({ changes: logged }, expected));
      return changes.map(({ key }, index) => {
        const entry = written[index] === true ? this.#log.index.get(key) : undefined;
        return entry === undefined ? refusal(key) : { status: 'written', revision: revisionOf(entry) };
      });
    }
  }

  /** `false` when another process was first; then what it did has to be looked at before the next try. */
  async #append(record: Parameters<ChangeLog['append']>[0]): Promise<boolean> {
    this.#isBehind = true;
    if (!(await this.#log.append(record))) return false;
    this.#announces = true;
    await this.#announce();
    return true;
  }

  async #catchUp(): Promise<void> {
    if (!this.#isBehind) return;
    await this.#log.refresh(this.#cluster.announced);
    await this.#announce();
  }

  /** Tells others of an append; also of one whose writer did not come to it. */
  async #announce(): Promise<void> {
    const { head } = this.#log;
    const isDue = this.#place.log.isAnnounced && this.#announces;
    if (isDue && head > this.#cluster.announced) await this.#cluster.announce(head);
    this.#isBehind = isDue && this.#cluster.announced > head;
  }

  async #takeForeignEdits(complete: boolean): Promise<void> {
    const edits = await this.#copies.foreignEdits(complete);
    await this.#announce();
    for (const together of recordsOf(edits)) {
      const changes = together.map(({ key, content }) => ({ key, content, lineage: this.#log.index.get(key)?.lineage ?? [] }));
      if (!(await this.#append({ at: Date.now(), author: FOREIGN, changes }))) {
        for (const { key } of edits) this.#copies.suspect(key);
        return this.#catchUp();
      }
      for (const { key, stamp } of together) this.#copies.verified(key, stamp);
    }
  }

  async #readLogged(keys: readonly StoreKey[]): Promise<ReadonlyMap<StoreKey, Entry>> {
    await this.#catchUp();
    const found = new Map<StoreKey, Entry>();
    const wanted = keys.flatMap((key) => {
      const entry = this.#log.index.get(key);
      return entry === undefined ? [] : [{ key, entry, sequence: entry.sequence }];
    });
    const contents = await this.#log.contentsAt(wanted.filter(({ entry }) => entry.state === 'live'));
    for (const { key, entry } of wanted) {
      const known = { key, revision: revisionOf(entry), lineage: entry.lineage };
      const content = contents.get(key);
      if (entry.state === 'deleted') found.set(key, { state: 'deleted', ...known });
      else if (content !== undefined) found.set(key, { state: 'live', ...known, content });
      else {
        throw new TokenmirrorError(
          'FORMAT_DAMAGED',
          `the store ${this.description} has lost a file of its log`,
          'Restore the store from a copy, or mirror into a new one.',
        );
      }
    }
    return found;
  }

  get #bare(): PlainPlace {
    return this.#place.bare ?? this.#place.plain;
  }

  async #listPlain(): Promise<Listing> {
    const entries = [...(await this.#bare.scan())].map(([name, stamp]) => ({
      name,
      state: 'live' as const,
      revision: plainRevision(stamp),
    }));
    return { entries, cursor: '' as Cursor, complete: true };
  }

  async #readPlain(keys: readonly StoreKey[]): Promise<ReadonlyMap<StoreKey, Entry>> {
    const found = new Map<StoreKey, Entry>();
    await Promise.all(
      keys.map(async (key) => {
        const reading = readDocumentKey(key);
        const file = reading.ok ? await this.#bare.read(reading.key) : undefined;
        if (file === undefined || file === 'unchanged') return;
        found.set(key, { state: 'live', key, revision: plainRevision(file.stamp), content: file.text, lineage: [] });
      }),
    );
    return found;
  }

  async #versions(key: DocumentKey): Promise<readonly Version[]> {
    await this.#catchUp();
    const versions = this.#log.index.get(key)?.versions ?? [];
    return versions.map(({ sequence, at, reason, author }) => ({
      id: String(sequence),
      at,
      reason,
      author: author === FOREIGN ? undefined : author,
    }));
  }

  async #contentOf(key: DocumentKey, id: string): Promise<string | undefined> {
    if (!/^\d+$/.test(id)) return undefined;
    return (await this.#log.contentsAt([{ sequence: Number(id), key }])).get(key);
  }

  async #archive(key: DocumentKey, content: string, reason: string, author: string): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      await this.#catchUp();
      if (this.#log.index.get(key)?.versions[0]?.digest === digestOf(content)) return;
      if (await this.#append({ at: Date.now(), author, changes: [], archived: { key, content, reason } })) return;
      await this.#stepBack(attempt);
    }
  }

  /** Others were first, which is over soon; a place that refuses for ever is out of order. */
  async #stepBack(attempt: number): Promise<void> {
    if (attempt === APPEND_TRIES) {
      throw new TokenmirrorError(
        'STORE_UNREACHABLE',
        `the store ${this.description} takes no more changes: its next number is taken and cannot be read`,
        'Look at what was done to its log; Tokenmirror goes on by itself.',
      );
    }
    if (attempt > APPEND_TRIES / 2) await delay(STEP_BACK_MS * Math.random());
  }

  /** One operation after the other, each only while the store is still there; what the place throws becomes an error of the store. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(async () => {
      try {
        if (await this.#cluster.check()) this.#isBehind = true;
        else this.#log.seen();
        return await work();
      } catch (error) {
        throw this.#place.explain(error);
      }
    });
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

/** Cuts changes into what goes into one file of the log. */
function recordsOf<Changed extends { readonly content: string | null }>(changes: readonly Changed[]): Changed[][] {
  const records: Changed[][] = [];
  let room = 0;
  let length = 0;
  for (const change of changes) {
    const size = change.content?.length ?? 0;
    if (room === 0 || length + size > LONGEST_RECORD) {
      records.push([]);
      room = LARGEST_RECORD;
      length = 0;
    }
    records.at(-1)?.push(change);
    room -= 1;
    length += size;
  }
  return records;
}

function revisionOf({ sequence, nonce }: IndexEntry): Revision {
  return `${String(sequence)}-${nonce.slice(0, 12)}` as Revision;
}

function plainRevision(stamp: string): Revision {
  return `plain:${stamp}` as Revision;
}
