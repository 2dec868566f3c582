import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import {
  checkFormat,
  readDocumentKey,
  TokenmirrorError,
  type Change,
  type ClusterIdentity,
  type Cursor,
  type Entry,
  type EntrySummary,
  type History,
  type Listing,
  type Revision,
  type StoreKey,
  type TokenStore,
  type WriteOutcome,
} from '@tokenmirror/core';
import { atomicFs } from './atomic-fs.js';
import { Branch } from './branch.js';
import { isForeign, type Standing } from './entry-index.js';
import { placeOf, shownPlace, type GitAddress } from './git-address.js';
import { explain, isDamaged } from './git-errors.js';
import { CLUSTER_PATH, contentPath } from './layout.js';
import { LocalOrigin } from './local-origin.js';
import { RemoteOrigin } from './remote-origin.js';
import { parseOwn } from './own-json.js';
import { Proposal } from './proposal.js';
import { Objects, type Author, type Oid, type Origin } from './repository.js';

export interface GitStoreOptions extends GitAddress {
  /** Where clones of remote repositories are kept; private to the user. */
  readonly cloneDirectory: string;
  readonly author?: Author;
  readonly historyLength?: number;
  /** How long a server may be silent, in ms. */
  readonly timeoutMs?: number;
}

const DEFAULT_AUTHOR: Author = { name: 'Tokenmirror', email: 'tokenmirror@localhost' };
const DEFAULT_TIMEOUT_MS = 10_000;
/** In the place of the identity that was lost; no object has that name. */
const LOST = 'lost';
const RETRY_PAUSE_MS = 100;
const LONGEST_RETRY_PAUSE_MS = 1000;

/**
 * A branch of a git repository as a store. The tree of its newest commit is the truth; a commit that is pushed on top of the one that it was planned on is
 * the compare-and-set, and nothing is ever forced. What others committed is understood by their tree, whatever became of the history.
 */
export class GitStore implements TokenStore {
  readonly description: string;
  readonly #origin: Origin;
  readonly #objects: Objects;
  readonly #options: GitStoreOptions;
  #branch: Branch;
  #epoch = randomUUID();
  #identity: ClusterIdentity | undefined;
  #identityOid: Oid | undefined;
  #mode: 'create' | 'look' = 'look';
  #turn: Promise<unknown> = Promise.resolve();
  readonly history: History;

  constructor(options: GitStoreOptions) {
    const place = placeOf(options);
    const { branch, cloneDirectory, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    this.description = shownPlace(place, branch);
    const fs = atomicFs({ durable: place.kind === 'local' });
    this.#origin =
      place.kind === 'http'
        ? new RemoteOrigin({ place, branch, cloneDirectory, timeoutMs, fs })
        : new LocalOrigin({ path: place.path, branch, fs });
    this.#objects = new Objects(fs, this.#origin);
    this.#options = options;
    this.#branch = this.#unseen();
    this.history = {
      versions: (key) => this.#upToDate(() => this.#branch.history.versions(key)),
      content: (key, id) => this.#upToDate(() => this.#branch.history.content(key, id)),
      archive: (key, content, reason, author) =>
        this.#upToDate(() => this.#commit((proposal) => proposal.archive(key, { at: Date.now(), reason, author, content }))),
    };
  }

  open(mode: 'create' | 'look'): Promise<ClusterIdentity | undefined> {
    return this.#inTurn(async () => {
      this.#mode = mode;
      this.#identity = undefined;
      this.#forget();
      await this.#origin.open();
      await this.#refresh();
      if (mode === 'create' && this.#branch.at(CLUSTER_PATH) === undefined) {
        await this.#commit(async (proposal) => {
          if (this.#branch.at(CLUSTER_PATH) === undefined) await proposal.found();
        });
      }
      await this.#readIdentity();
      return this.#identity;
    });
  }

  list(since?: Cursor): Promise<Listing> {
    return this.#upToDate(async () => {
      if (this.#mode === 'create') await this.#adoptForeignChanges();
      const [epoch, position] = since?.split(' ') ?? [];
      const complete = epoch !== this.#epoch;
      const entries: EntrySummary[] = complete
        ? [...this.#branch.index.all()].map((standing) => summaryOf(standing.name, standing))
        : this.#branch.index.since(Number(position)).map(({ name, standing }) => summaryOf(name, standing));
      return { entries, cursor: `${this.#epoch} ${String(this.#branch.index.position)}` as Cursor, complete };
    });
  }

  read(keys: readonly StoreKey[]): Promise<ReadonlyMap<StoreKey, Entry>> {
    return this.#upToDate(async () => {
      const found = await Promise.all(keys.map((key) => this.#entryOf(key)));
      return new Map(found.flatMap((entry) => (entry === undefined ? [] : [[entry.key, entry]])));
    });
  }

  write(changes: readonly Change[], author: string, how?: 'together'): Promise<readonly WriteOutcome[]> {
    if (changes.length === 0) return Promise.resolve([]);
    return this.#inTurn(async () => {
      if (!changes.every((change) => this.#fits(change))) await this.#refresh();
      for (let attempt = 1; ; attempt += 1) {
        const accepted = new Map<StoreKey, Change>();
        const outcomes: WriteOutcome[] = [];
        for (const change of changes) outcomes.push(await this.#judge(change, accepted));
        if (accepted.size === 0) return outcomes;
        if (how === 'together' && accepted.size < changes.length)
          return outcomes.map((outcome) => (outcome.status === 'written' ? { status: 'refused' } : outcome));
        const proposal = new Proposal(this.#branch, this.#objects);
        await Promise.all([...accepted.values()].map((change) => proposal.change(change, author)));
        if (await proposal.commit()) {
          return outcomes.map((outcome, index) => {
            const change = changes[index];
            const standing = change === undefined ? undefined : this.#branch.index.get(change.key);
            return outcome.status === 'written' && standing !== undefined ? { status: 'written', revision: revisionOf(standing) } : outcome;
          });
        }
        await this.#stepBack(attempt);
      }
    });
  }

  now(): Promise<number> {
    return this.#inTurn(() => this.#origin.now());
  }

  async close(): Promise<void> {
    await this.#turn;
    await this.#origin.close();
  }

  async #entryOf(key: StoreKey): Promise<Entry | undefined> {
    const standing = this.#branch.index.get(key);
    if (standing === undefined) return undefined;
    const known = { key, revision: revisionOf(standing), lineage: await this.#branch.index.lineageOf(standing) };
    if (standing.content === undefined) return { state: 'deleted', ...known };
    return { state: 'live', ...known, content: await this.#objects.text(standing.content) };
  }

  #fits({ key, expected }: Change): boolean {
    const standing = this.#branch.index.get(key);
    return expected === (standing === undefined ? 'absent' : revisionOf(standing));
  }

  async #judge(change: Change, accepted: Map<StoreKey, Change>): Promise<WriteOutcome> {
    if (accepted.has(change.key) || !this.#fits(change)) return { status: 'refused' };
    if (change.content !== null && (await this.#branch.excludes(contentPath(change.key)))) {
      return { status: 'unacceptable', reason: 'a .gitignore of the repository excludes it' };
    }
    const path = contentPath(change.key);
    const isBesideAccepted = [...accepted.keys()].some(
      (key) => contentPath(key).startsWith(`${path}/`) || path.startsWith(`${contentPath(key)}/`),
    );
    if (change.content !== null && (this.#branch.clashes(path) || isBesideAccepted)) {
      return { status: 'unacceptable', reason: 'a file and a directory would have the same name in the repository' };
    }
    accepted.set(change.key, change);
    return { status: 'written', revision: change.expected as Revision };
  }

  #adoptForeignChanges(): Promise<void> {
    return this.#commit(async (proposal) => {
      for (const standing of this.#branch.index.all()) {
        const reading = readDocumentKey(standing.name);
        if (reading.ok && isForeign(standing)) await proposal.adopt(reading.key, standing);
      }
    });
  }

  /** Commits what is proposed, which may be nothing; when somebody else was first it is planned again. */
  async #commit(propose: (proposal: Proposal) => Promise<void>): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      const proposal = new Proposal(this.#branch, this.#objects);
      await propose(proposal);
      if (proposal.isEmpty || (await proposal.commit())) return;
      await this.#stepBack(attempt);
    }
  }

  /** Somebody else was first: lets others go ahead, the longer the more there are, and looks at what they did. */
  async #stepBack(attempt: number): Promise<void> {
    await delay(Math.min(LONGEST_RETRY_PAUSE_MS, RETRY_PAUSE_MS * 2 ** attempt) * Math.random());
    await this.#refresh();
  }

  async #refresh(): Promise<void> {
    await this.#branch.refresh();
    if (this.#identity !== undefined && this.#branch.at(CLUSTER_PATH) !== this.#identityOid) await this.#checkIdentity(this.#identity);
  }

  async #readIdentity(): Promise<void> {
    const oid = this.#branch.at(CLUSTER_PATH);
    this.#identity = await this.#identityAt(oid);
    this.#identityOid = oid;
  }

  async #identityAt(oid: Oid | undefined): Promise<ClusterIdentity | undefined> {
    if (oid === undefined) return undefined;
    const shown = `${CLUSTER_PATH} in ${this.description}`;
    const stored = parseOwn(await this.#objects.text(oid), shown) as ClusterIdentity;
    checkFormat(stored, shown);
    return { id: stored.id, key: stored.key };
  }

  async #checkIdentity(known: ClusterIdentity): Promise<void> {
    const oid = this.#branch.at(CLUSTER_PATH);
    this.#identityOid = LOST;
    const found = await this.#identityAt(oid);
    if (found?.id === known.id) {
      this.#identityOid = oid;
      return;
    }
    throw new TokenmirrorError(
      'STORE_UNREACHABLE',
      `git ${this.description} has lost its cluster id or holds another`,
      'Restore the branch, or restart Tokenmirror to look at what is there now.',
    );
  }

  #unseen(): Branch {
    const { author = DEFAULT_AUTHOR, historyLength } = this.#options;
    return new Branch({ origin: this.#origin, objects: this.#objects, author, historyLength });
  }

  #forget(): void {
    this.#objects.forget();
    this.#branch = this.#unseen();
    this.#epoch = randomUUID();
  }

  #upToDate<T>(work: () => Promise<T>): Promise<T> {
    return this.#inTurn(async () => {
      await this.#refresh();
      return work();
    });
  }

  /** One operation after the other; what is thrown becomes an error of the store. A copy of the repository that turns out to be damaged is made anew for the next one. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(async () => {
      try {
        return await work();
      } catch (error) {
        if (isDamaged(error)) {
          this.#forget();
          await this.#origin.renew();
        } else if (this.#branch.isBroken) this.#forget();
        throw explain(error, this.description);
      }
    });
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

function summaryOf(name: string, standing: Standing | undefined): EntrySummary {
  if (standing === undefined) return { name, state: 'absent', revision: '' as Revision };
  return { name, state: standing.content === undefined ? 'deleted' : 'live', revision: revisionOf(standing) };
}

/** An entry is another one with every write of ours; a content that does not belong to it came from somebody else. */
function revisionOf(standing: Standing): Revision {
  const { entry, content } = standing;
  const own = entry === undefined ? 'none' : entry.oid.slice(0, 20);
  return (isForeign(standing) ? `${own}+${content?.slice(0, 20) ?? 'removed'}` : own) as Revision;
}
