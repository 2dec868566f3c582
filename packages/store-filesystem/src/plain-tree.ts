import { readdirSync, readFileSync, statSync, type BigIntStats, type Dirent } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AUTH_PREFIX, CONFIG_KEY, readDocumentKey, type DocumentKey } from '@tokenmirror/core';
import { ABSENT, type PlainFile, type PlainPlace, type Reading } from '@tokenmirror/change-log';
import { makeDirectory, replaceFile } from '@tokenmirror/files';

/** The store's documents as ordinary files, `auths/…` and `config/config.yaml`. */
export class PlainTree implements PlainPlace {
  readonly #root: string;
  readonly #bareAuths: boolean;

  /** With `bareAuths`, a directory of `*.json` without `auths/` below it is taken for an auth directory. */
  constructor(root: string, options: { readonly bareAuths: boolean }) {
    this.#root = root;
    this.#bareAuths = options.bareAuths;
  }

  scan(): Promise<ReadonlyMap<string, string>> {
    const found = new Map<string, string>();
    this.#scanDirectory(this.#authDir, AUTH_PREFIX, found);
    const config = this.#stat(CONFIG_KEY);
    if (config?.isFile() === true) found.set(CONFIG_KEY, stampOf(config));
    return Promise.resolve(found);
  }

  read(key: DocumentKey, unless?: string): Promise<Reading<PlainFile>> {
    const stat = this.#stat(key);
    if (stat?.isFile() !== true) return Promise.resolve(undefined);
    const stamp = stampOf(stat);
    if (stamp === unless) return Promise.resolve('unchanged');
    const age = Date.now() - Number(stat.mtimeMs);
    try {
      return Promise.resolve({ text: readFileSync(this.#pathOf(key), 'utf8'), stamp, ageMs: age < 0 ? Infinity : age });
    } catch {
      return Promise.resolve(undefined);
    }
  }

  async write(key: DocumentKey, content: string, expected: string | undefined): Promise<string | undefined> {
    const path = this.#pathOf(key);
    await makeDirectory(dirname(path));
    const isWritten = await replaceFile(path, content, { durable: false, confirm: () => this.#stillHas(key, expected) });
    const stat = isWritten ? this.#stat(key) : undefined;
    return stat && stampOf(stat);
  }

  async remove(key: DocumentKey, expected: string | undefined): Promise<boolean> {
    if (!this.#stillHas(key, expected)) return this.#stat(key) === undefined;
    await rm(this.#pathOf(key), { force: true });
    return true;
  }

  #stillHas(key: DocumentKey, expected: string | undefined): boolean {
    if (expected === undefined) return true;
    const stat = this.#stat(key);
    return (stat === undefined ? ABSENT : stampOf(stat)) === expected;
  }

  get #authDir(): string {
    const auths = join(this.#root, 'auths');
    const isBare =
      this.#bareAuths && !exists(auths) && exists(this.#root) && readdirSync(this.#root).some((name) => name.endsWith('.json'));
    return isBare ? this.#root : auths;
  }

  #pathOf(key: DocumentKey): string {
    return key === CONFIG_KEY ? join(this.#root, CONFIG_KEY) : join(this.#authDir, key.slice(AUTH_PREFIX.length));
  }

  #stat(key: DocumentKey): BigIntStats | undefined {
    try {
      return statSync(this.#pathOf(key), { bigint: true });
    } catch {
      return undefined;
    }
  }

  #scanDirectory(directory: string, prefix: string, found: Map<string, string>): void {
    if (!exists(directory)) return;
    for (const entry of entriesOf(directory, prefix === AUTH_PREFIX)) {
      const name = prefix + entry.name;
      if (entry.isDirectory() && !entry.name.startsWith('.')) this.#scanDirectory(join(directory, entry.name), `${name}/`, found);
      else if (entry.isFile()) {
        const reading = readDocumentKey(name);
        if (!reading.ok && reading.ignored) continue;
        const stat = reading.ok ? this.#stat(reading.key) : undefined;
        found.set(name, stat === undefined ? '' : stampOf(stat));
      }
    }
  }
}

function stampOf(stat: BigIntStats): string {
  return `${String(stat.ino)}:${String(stat.size)}:${String(stat.mtimeNs)}:${String(stat.ctimeNs)}`;
}

/** A sub-directory that cannot be read costs its own files only. */
function entriesOf(directory: string, isRoot: boolean): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    if (isRoot) throw error;
    return [];
  }
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
