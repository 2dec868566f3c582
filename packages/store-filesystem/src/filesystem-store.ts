import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, watch as watchDirectory, type FSWatcher } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  CURRENT_FORMAT,
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
  type StopWatching,
  type StoreKey,
  type TokenStore,
  type Version,
  type WriteOutcome,
} from '@tokenmirror/core';
import { createFile, hasCode, makeDirectory, removeLeftovers } from '@tokenmirror/files';
import { ChangeLog, digestOf, LARGEST_RECORD, parseStamped, stampOf, type IndexEntry } from './change-log.js';
import { explain } from './directory-errors.js';
import { FOREIGN, PlainCopies, QUIET_MS } from './plain-copies.js';
import { PlainTree } from './plain-tree.js';

export interface FilesystemStoreOptions {
  /** The directory; made when it does not exist (its parent must). */
  readonly directory: string;
  readonly historyLength?: number;
}

/** A directory as a store: a log of changes as the truth, and the documents as plain files beside it. */
export class FilesystemStore implements TokenStore {
  readonly description: string;
  readonly #directory: string;
  readonly #own: string;
  readonly #log: ChangeLog;
  #tree: PlainTree;
  readonly #copies: PlainCopies;
  #identity: ClusterIdentity | undefined;
  #identityStamp = '';
  #mode: 'create' | 'look' = 'look';
  #turn: Promise<unknown> = Promise.resolve();
  readonly history: History;

  constructor({ directory, historyLength = DEFAULT_HISTORY_LENGTH }: FilesystemStoreOptions) {
    this.description = `file://${directory}`;
    this.#directory = directory;
    this.#own = join(directory, '.tokenmirror');
    this.#log = new ChangeLog(this.#own, historyLength);
    this.#tree = new PlainTree(directory, { bareAuths: false });
    this.#copies = new PlainCopies(this.#tree, this.#log);
    this.history = {
      versions: (key) => this.#inTurn(() => this.#versions(key)),
      content: (key, id) => this.#inTurn(() => (/^\d+$/.test(id) ? this.#log.contentAt(Number(id), key) : Promise.resolve(undefined))),
      archive: (key, content, reason, author) => this.#inTurn(() => this.#archive(key, content, reason, author)),
    };
  }

  open(mode: 'create' | 'look'): Promise<ClusterIdentity | undefined> {
    return this.#inTurn(async () => {
      this.#mode = mode;
      if (mode === 'create') {
        await makeDirectory(this.#own);
        await this.#log.create();
        await removeLeftovers(this.#directory, 'with sub-directories');
        const identity = { id: randomUUID(), key: randomBytes(32).toString('base64url') };
        await createFile(this.#identityPath, `${JSON.stringify({ ...CURRENT_FORMAT, ...identity })}\n`);
      }
      this.#identity = await this.#readIdentity();
      this.#identityStamp = await stampOf(this.#identityPath);
      if (this.#identity === undefined) this.#tree = new PlainTree(this.#directory, { bareAuths: true });
      return this.#identity;
    });
  }

  list(since?: Cursor): Promise<Listing> {
    return this.#inTurn(async () => {
      if (this.#identity === undefined) return this.#listPlain();
      await this.#log.refresh();
      if (this.#mode === 'create') await this.#copies.takeForeignChanges(since === undefined);
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
    return this.#inTurn(async () => {
      const found = new Map<StoreKey, Entry>();
      if (this.#identity !== undefined) await this.#log.refresh();
      for (const key of keys) {
        const entry = this.#identity === undefined ? this.#readPlain(key) : await this.#readLogged(key);
        if (entry !== undefined) found.set(key, entry);
      }
      return found;
    });
  }

  async write(changes: readonly Change[], author: string): Promise<readonly WriteOutcome[]> {
    const outcomes: WriteOutcome[] = [];
    for (let at = 0; at < changes.length; at += LARGEST_RECORD) {
      outcomes.push(...(await this.#inTurn(() => this.#writeTogether(changes.slice(at, at + LARGEST_RECORD), author))));
    }
    return outcomes;
  }

  async close(): Promise<void> {
    await this.#turn;
  }

  watch(hint: () => void): Promise<StopWatching> {
    const watchers: FSWatcher[] = [];
    let quiet: NodeJS.Timeout | undefined;
    const add = (directory: string, noticed: (name: string | null) => void): void => {
      if (!existsSync(directory)) return;
      const watcher = watchDirectory(directory, (_, name) => {
        noticed(name);
      });
      watcher.on('error', () => undefined);
      watchers.push(watcher);
    };
    const suspect = (prefix: string) => (name: string | null) => {
      const reading = readDocumentKey(prefix + (name ?? ''));
      if (!reading.ok) return;
      this.#copies.suspect(reading.key);
      quiet ??= setTimeout(() => {
        quiet = undefined;
        hint();
      }, QUIET_MS);
    };
    add(this.#log.directory, hint);
    add(join(this.#directory, 'auths'), suspect('auths/'));
    add(join(this.#directory, 'config'), suspect('config/'));
    return Promise.resolve(() => {
      for (const watcher of watchers) watcher.close();
      clearTimeout(quiet);
      return Promise.resolve();
    });
  }

  get #identityPath(): string {
    return join(this.#own, 'cluster.json');
  }

  async #writeTogether(changes: readonly Change[], author: string): Promise<readonly WriteOutcome[]> {
    for (;;) {
      await this.#log.refresh();
      const accepted = new Set<StoreKey>();
      const written = changes.map((change) => {
        const isFirst = !accepted.has(change.key);
        const now = this.#log.index.get(change.key);
        const fits = isFirst && change.expected === (now === undefined ? 'absent' : revisionOf(now));
        if (fits) accepted.add(change.key);
        return fits;
      });
      if (accepted.size === 0) return changes.map(() => ({ status: 'refused' }));
      const record = {
        at: Date.now(),
        author,
        changes: changes.filter((_, index) => written[index]).map(({ key, content, lineage }) => ({ key, content, lineage })),
      };
      if (!(await this.#log.append(record))) continue;
      await this.#copies.copyOut(record);
      return changes.map(({ key }, index) => {
        const entry = written[index] === true ? this.#log.index.get(key) : undefined;
        return entry === undefined ? { status: 'refused' } : { status: 'written', revision: revisionOf(entry) };
      });
    }
  }

  async #readLogged(key: StoreKey): Promise<Entry | undefined> {
    const entry = this.#log.index.get(key);
    if (entry === undefined) return undefined;
    const { sequence, state, lineage, digest } = entry;
    const known = { key, revision: revisionOf(entry), lineage };
    if (state === 'deleted') return { state: 'deleted', ...known };
    const reading = readDocumentKey(key);
    const plain = reading.ok ? this.#tree.read(reading.key) : undefined;
    const content = plain !== undefined && digestOf(plain) === digest ? plain : await this.#log.contentAt(sequence, key);
    if (content === undefined) {
      throw new TokenmirrorError(
        'FORMAT_DAMAGED',
        `the store ${this.description} has lost a file of its log`,
        'Restore the store directory from a copy, or mirror into a new one.',
      );
    }
    return { state: 'live', ...known, content };
  }

  #listPlain(): Listing {
    const entries = [...this.#tree.scan()].map(([name, stamp]) => ({
      name,
      state: 'live' as const,
      revision: `plain:${stamp}` as Revision,
    }));
    return { entries, cursor: '' as Cursor, complete: true };
  }

  #readPlain(key: StoreKey): Entry | undefined {
    const reading = readDocumentKey(key);
    const content = reading.ok ? this.#tree.read(reading.key) : undefined;
    if (!reading.ok || content === undefined) return undefined;
    return { state: 'live', key, revision: `plain:${this.#tree.stampOf(reading.key) ?? ''}` as Revision, content, lineage: [] };
  }

  async #versions(key: DocumentKey): Promise<readonly Version[]> {
    await this.#log.refresh();
    const versions = this.#log.index.get(key)?.versions ?? [];
    return versions.map(({ sequence, at, reason, author }) => ({
      id: String(sequence),
      at,
      reason,
      author: author === FOREIGN ? undefined : author,
    }));
  }

  async #archive(key: DocumentKey, content: string, reason: string, author: string): Promise<void> {
    for (;;) {
      await this.#log.refresh();
      if (this.#log.index.get(key)?.versions[0]?.digest === digestOf(content)) return;
      if (await this.#log.append({ at: Date.now(), author, changes: [], archived: { key, content, reason } })) return;
    }
  }

  async #readIdentity(): Promise<ClusterIdentity | undefined> {
    let text: string;
    try {
      text = await readFile(this.#identityPath, 'utf8');
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
      throw error;
    }
    const { id, key } = parseStamped<ClusterIdentity>(text, this.#identityPath);
    return { id, key };
  }

  async #checkIdentity(): Promise<void> {
    if (this.#identity === undefined) return;
    const stamp = await stampOf(this.#identityPath);
    if (stamp === this.#identityStamp) return;
    if ((await this.#readIdentity())?.id !== this.#identity.id) {
      throw new TokenmirrorError(
        'STORE_UNREACHABLE',
        `the store directory ${this.#directory} has lost its cluster id or holds another`,
        'Mount or restore the right directory, or restart Tokenmirror to look at the new cluster.',
      );
    }
    this.#identityStamp = stamp;
  }

  /** One operation after the other, each only while the store is still there; failures of the disk become errors of the store. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(async () => {
      try {
        await this.#checkIdentity();
        return await work();
      } catch (error) {
        throw explain(error, this.#directory);
      }
    });
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

/** With the content, because a log that was restored from a copy gives its numbers out again. */
function revisionOf({ sequence, state, digest }: IndexEntry): Revision {
  return `${String(sequence)}-${state === 'deleted' ? 'deleted' : digest.slice(0, 12)}` as Revision;
}
