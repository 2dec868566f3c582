import git, { type CommitObject, type TreeEntry } from 'isomorphic-git';

export type Oid = string;

/** What becomes of one file. */
export interface Edit {
  readonly path: string;
  readonly before: Oid | undefined;
  readonly after: Oid | undefined;
}

/** What a commit brings. */
export interface Publication {
  readonly edits: readonly Edit[];
  /** Every object that was written for it; some may be there already. */
  readonly written: ReadonlySet<Oid>;
}

/** Where commits come from and go to. */
export interface Origin {
  /** The directory with the objects. */
  readonly gitdir: string;
  /** Makes what is needed to read. With `create`, also what is needed to write. */
  open(mode: 'create' | 'look'): Promise<void>;
  /** The newest commit of the branch, its objects at hand; `undefined` when there is no branch yet. */
  latest(): Promise<Oid | undefined>;
  /** Moves the branch from `parent` to `commit`; `false` when it is no longer there. */
  publish(commit: Oid, parent: Oid | undefined, publication: Publication): Promise<boolean>;
  /** The objects here cannot be trusted any more; where they are a copy they are fetched anew. */
  renew(): Promise<void>;
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

  /** Every object that was written since the last publication. */
  get written(): ReadonlySet<Oid> {
    return this.#written;
  }

  published(): void {
    this.#written.clear();
  }

  async #note(writing: Promise<Oid>): Promise<Oid> {
    const oid = await writing;
    this.#written.add(oid);
    return oid;
  }

  /** What was read of packs is kept in memory until then. */
  forget(): void {
    this.#cache = {};
  }

  get #where(): { readonly fs: Parameters<typeof git.readTree>[0]['fs']; readonly gitdir: string; readonly cache: object } {
    return { fs: this.#fs, gitdir: this.#origin.gitdir, cache: this.#cache };
  }
}
