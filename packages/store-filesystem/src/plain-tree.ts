import { readdirSync, readFileSync, statSync, type BigIntStats, type Dirent } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AUTH_PREFIX, CONFIG_KEY, readDocumentKey, type DocumentKey } from '@tokenmirror/core';
import { makeDirectory, replaceFile } from '@tokenmirror/files';

/** The store's documents as ordinary files, `auths/…` and `config/config.yaml`: for people, for backups, and for CLIProxyAPI to start from. */
export class PlainTree {
  readonly #root: string;
  readonly #authDir: string;

  /** With `bareAuths`, a directory of `*.json` without `auths/` below it is taken for an auth directory. */
  constructor(root: string, options: { readonly bareAuths: boolean }) {
    this.#root = root;
    const auths = join(root, 'auths');
    const isBare = options.bareAuths && !exists(auths) && exists(root) && readdirSync(root).some((name) => name.endsWith('.json'));
    this.#authDir = isBare ? root : auths;
  }

  /** Every document there is, with a stamp that changes with the file. */
  scan(): Map<string, string> {
    const found = new Map<string, string>();
    this.#scanDirectory(this.#authDir, AUTH_PREFIX, found);
    const config = this.stampOf(CONFIG_KEY);
    if (config !== undefined) found.set(CONFIG_KEY, config);
    return found;
  }

  stampOf(key: DocumentKey): string | undefined {
    const stat = this.#stat(key);
    return stat?.isFile() === true ? `${String(stat.ino)}:${String(stat.size)}:${String(stat.mtimeNs)}:${String(stat.ctimeNs)}` : undefined;
  }

  /** How long ago the file was written, in ms; infinite for one that is not there, or that is dated in the future. */
  ageOf(key: DocumentKey): number {
    const age = Date.now() - Number(this.#stat(key)?.mtimeMs ?? -Infinity);
    return age < 0 ? Infinity : age;
  }

  read(key: DocumentKey): string | undefined {
    try {
      return readFileSync(this.pathOf(key), 'utf8');
    } catch {
      return undefined;
    }
  }

  async write(key: DocumentKey, content: string): Promise<string | undefined> {
    const path = this.pathOf(key);
    await makeDirectory(dirname(path));
    await replaceFile(path, content, { durable: false });
    return this.stampOf(key);
  }

  async remove(key: DocumentKey): Promise<void> {
    await rm(this.pathOf(key), { force: true });
  }

  pathOf(key: DocumentKey): string {
    return key === CONFIG_KEY ? join(this.#root, CONFIG_KEY) : join(this.#authDir, key.slice(AUTH_PREFIX.length));
  }

  #stat(key: DocumentKey): BigIntStats | undefined {
    try {
      return statSync(this.pathOf(key), { bigint: true });
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
        found.set(name, reading.ok ? (this.stampOf(reading.key) ?? '') : '');
      }
    }
  }
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
