import { mkdir, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ListedFile, LogPlace, Reading } from '@tokenmirror/change-log';
import { createFile, hasCode, makeDirectory, removeLeftovers, replaceFile, syncDirectory } from '@tokenmirror/files';

/** The log in a directory. A look costs a few `stat` calls, so nothing is announced. */
export class DirectoryLog implements LogPlace {
  readonly isAnnounced = false;
  readonly #root: string;
  readonly #directory: string;
  readonly #makesParents: boolean;

  constructor(root: string, makesParents: boolean) {
    this.#root = root;
    this.#makesParents = makesParents;
    this.#directory = join(root, '.tokenmirror');
  }

  /** The directory is made, but not what it lies in: that may be a disk that is not mounted. */
  async prepare(): Promise<void> {
    if (this.#makesParents) await makeDirectory(dirname(this.#root));
    await mkdir(this.#root, { mode: 0o700 }).catch((error: unknown) => {
      if (!hasCode(error, 'EEXIST')) throw error;
    });
    await makeDirectory(join(this.#directory, 'log'));
    await removeLeftovers(this.#root, 'with sub-directories');
  }

  async create(name: string, text: string): Promise<string | undefined> {
    const path = this.#pathOf(name);
    if (!(await createFile(path, text))) return undefined;
    await syncDirectory(dirname(path));
    return (await stampOf(path)) ?? '';
  }

  async read(name: string, unless?: string): Promise<Reading> {
    const path = this.#pathOf(name);
    const stamp = await stampOf(path);
    if (stamp === undefined) return undefined;
    if (stamp === unless) return 'unchanged';
    const text = await unlessMissing(readFile(path, 'utf8'));
    return text === undefined ? undefined : { text, stamp };
  }

  stampOf(name: string): Promise<string | undefined> {
    return stampOf(this.#pathOf(name));
  }

  async replace(name: string, text: string): Promise<string | undefined> {
    const path = this.#pathOf(name);
    await replaceFile(path, text);
    return stampOf(path);
  }

  async list(folder: string): Promise<readonly ListedFile[]> {
    const names = await readdir(this.#pathOf(folder));
    const files = await Promise.all(
      names.map(async (name) => {
        const found = await unlessMissing(stat(join(this.#pathOf(folder), name)));
        return found === undefined ? [] : [{ name: `${folder}/${name}`, ageMs: Date.now() - found.mtimeMs }];
      }),
    );
    return files.flat();
  }

  async remove(names: readonly string[]): Promise<void> {
    for (const name of names) await rm(this.#pathOf(name), { force: true });
  }

  /** What a file gets that is written now: on a shared disk, the time of the machine that it is on. */
  async now(): Promise<number> {
    const path = this.#pathOf('clock');
    await writeFile(path, String(Math.random()), { mode: 0o600 });
    return (await stat(path)).mtimeMs;
  }

  #pathOf(name: string): string {
    return join(this.#directory, name);
  }
}

async function stampOf(path: string): Promise<string | undefined> {
  const found = await unlessMissing(stat(path, { bigint: true }));
  return found && `${String(found.ino)}:${String(found.mtimeNs)}:${String(found.size)}`;
}

async function unlessMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}
