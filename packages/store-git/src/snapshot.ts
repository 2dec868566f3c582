import type { TreeEntry } from 'isomorphic-git';
import type { Edit, Objects, Oid } from './repository.js';

interface Directory {
  readonly oid: Oid;
  readonly entries: ReadonlyMap<string, TreeEntry>;
}

const ROOT = '';

/** The files of one commit, by path. Moving to another commit costs what differs. */
export class Snapshot {
  readonly #objects: Objects;
  readonly #directories = new Map<string, Directory>();
  readonly files = new Map<string, Oid>();

  constructor(objects: Objects) {
    this.#objects = objects;
  }

  /** Becomes the tree `root`; returns the paths that are not as they were. */
  async become(root: Oid | undefined): Promise<ReadonlySet<string>> {
    const changed = new Set<string>();
    if (root === undefined) this.#drop(ROOT, changed);
    else await this.#read(ROOT, root, changed);
    return changed;
  }

  /** The names in a directory. */
  names(directory: string): readonly string[] {
    return [...(this.#directories.get(directory)?.entries.keys() ?? [])];
  }

  /** Writes the tree that results from these edits; this snapshot stays as it is. */
  async edited(edits: readonly Edit[]): Promise<Oid> {
    return (await this.#edit(ROOT, new Map(edits.map(({ path, after }) => [path, after])))) ?? (await this.#objects.writeTree([]));
  }

  async #read(path: string, oid: Oid, changed: Set<string>): Promise<void> {
    const before = this.#directories.get(path);
    if (before?.oid === oid) return;
    const entries = new Map((await this.#objects.tree(oid)).map((entry) => [entry.path, entry]));
    for (const [name, { type }] of before?.entries ?? []) {
      if (entries.get(name)?.type !== type) this.#drop(below(path, name), changed);
    }
    for (const [name, entry] of entries) {
      const at = below(path, name);
      if (entry.type === 'tree') await this.#read(at, entry.oid, changed);
      else if (entry.type === 'blob' && isFile(entry) && this.files.get(at) !== entry.oid) {
        this.files.set(at, entry.oid);
        changed.add(at);
      }
    }
    this.#directories.set(path, { oid, entries });
  }

  #drop(path: string, changed: Set<string>): void {
    if (this.files.delete(path)) changed.add(path);
    const directory = this.#directories.get(path);
    this.#directories.delete(path);
    for (const name of directory?.entries.keys() ?? []) this.#drop(below(path, name), changed);
  }

  async #edit(path: string, edits: ReadonlyMap<string, Oid | undefined>): Promise<Oid | undefined> {
    const entries = new Map(this.#directories.get(path)?.entries);
    const deeper = new Map<string, Map<string, Oid | undefined>>();
    for (const [at, oid] of edits) {
      const [name = '', ...rest] = at.split('/');
      if (rest.length > 0) {
        const inside = deeper.get(name) ?? new Map<string, Oid | undefined>();
        deeper.set(name, inside.set(rest.join('/'), oid));
      } else if (oid === undefined) entries.delete(name);
      else entries.set(name, { mode: modeOf(entries.get(name)), path: name, oid, type: 'blob' });
    }
    for (const [name, inside] of deeper) {
      const oid = await this.#edit(below(path, name), inside);
      if (oid === undefined) entries.delete(name);
      else entries.set(name, { mode: '040000', path: name, oid, type: 'tree' });
    }
    return entries.size === 0 ? undefined : this.#objects.writeTree([...entries.values()]);
  }
}

function below(path: string, name: string): string {
  return path === ROOT ? name : `${path}/${name}`;
}

/** A file keeps its mode, an executable one too. */
function modeOf(before: TreeEntry | undefined): string {
  return before?.type === 'blob' && isFile(before) ? before.mode : '100644';
}

/** Not a symbolic link. */
function isFile({ mode }: TreeEntry): boolean {
  return mode !== '120000';
}
