import git, { type CommitObject, type TreeEntry } from 'isomorphic-git';

export type Oid = string;

/** What becomes of one file; `undefined` removes it. */
export interface Edit {
  readonly path: string;
  readonly after: Oid | undefined;
}

/** Where commits come from and go to. */
export interface Origin {
  /** The directory with the objects. */
  readonly gitdir: string;
  /** Another one whenever the objects were fetched anew. */
  readonly generation: number;
  /** Makes what is needed to read and to write. */
  open(): Promise<void>;
  /** The newest commit of the branch, its objects at hand; `undefined` when there is no branch yet. */
  latest(): Promise<Oid | undefined>;
  /** Moves the branch from `parent` to `commit`, for which `written` was written; `false` when it is no longer there. */
  publish(commit: Oid, parent: Oid | undefined, written: ReadonlySet<Oid>): Promise<boolean>;
  /** The objects here cannot be trusted any more; where they are a copy they are fetched anew. */
  renew(): Promise<void>;
  /** ms since the epoch by the clock of the place. */
  now(): Promise<number>;
  close(): Promise<void>;
}

export interface Author {
  readonly name: string;
  readonly email: string;
}

/** Reads and writes objects, without an index and without a working tree. */
export class Objects {
  readonly #fs: Parameters<typeof git.readTree>[0]['fs'];
  readonly #origin: Origin;
  #cache = {};
  #generation = 0;
  readonly #written = new Set<Oid>();

  constructor(fs: Parameters<typeof git.readTree>[0]['fs'], origin: Origin) {
    this.#fs = fs;
    this.#origin = origin;
  }

  async treeOf(commit: Oid): Promise<Oid> {
    return (await git.readCommit({ ...this.#where, oid: commit })).commit.tree;
  }

  async tree(oid: Oid): Promise<readonly TreeEntry[]> {
    return (await git.readTree({ ...this.#where, oid })).tree;
  }

  async text(oid: Oid): Promise<string> {
    const { blob } = await git.readBlob({ ...this.#where, oid });
    return Buffer.from(blob.buffer, blob.byteOffset, blob.byteLength).toString();
  }

  /** The text of a blob that may be gone: a shallow clone has those of the newest commit only. */
  async textIfKept(oid: Oid): Promise<string | undefined> {
    try {
      return await this.text(oid);
    } catch (error) {
      if ((error as { code?: unknown }).code === 'NotFoundError') return undefined;
      throw error;
    }
  }

  writeText(text: string): Promise<Oid> {
    return this.#note(git.writeBlob({ ...this.#where, blob: Buffer.from(text) }));
  }

  writeTree(tree: TreeEntry[]): Promise<Oid> {
    return this.#note(git.writeTree({ ...this.#where, tree }));
  }

  writeCommit(tree: Oid, parent: Oid | undefined, { name, email }: Author, message: string): Promise<Oid> {
    const signature = { name, email, timestamp: Math.floor(Date.now() / 1000), timezoneOffset: 0 };
    const commit: CommitObject = { tree, parent: parent === undefined ? [] : [parent], author: signature, committer: signature, message };
    return this.#note(git.writeCommit({ ...this.#where, commit }));
  }

  /** What is written from now on belongs to a new commit. */
  begin(): void {
    this.#written.clear();
  }

  /** Every object that was written since the beginning of the commit. */
  get written(): ReadonlySet<Oid> {
    return this.#written;
  }

  async #note(writing: Promise<Oid>): Promise<Oid> {
    const oid = await writing;
    this.#written.add(oid);
    return oid;
  }

  /** What was read of packs is kept in memory until then. */
  forget(): void {
    this.#cache = {};
    this.#written.clear();
  }

  get #where(): { readonly fs: Parameters<typeof git.readTree>[0]['fs']; readonly gitdir: string; readonly cache: object } {
    if (this.#generation !== this.#origin.generation) {
      this.#generation = this.#origin.generation;
      this.#cache = {};
    }
    return { fs: this.#fs, gitdir: this.#origin.gitdir, cache: this.#cache };
  }
}
