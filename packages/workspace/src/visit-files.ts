import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { checkFormat, CURRENT_FORMAT, type DocumentKey, type Visit, type VisitJournal } from '@tokenmirror/core';
import { replaceFile, syncDirectory } from '@tokenmirror/files';
import { denied } from './denied.js';

const FOLDER = 'visits';
const MADE = 'made';

/** The visits of a workspace, one small file each below the state directory. They name tokens by keyed hashes only. */
export class VisitFiles implements VisitJournal {
  readonly #directory: string;
  readonly #visits = new Map<DocumentKey, Visit>();

  /** Those of another cluster, or another store, are none. @throws TokenmirrorError FORMAT_NEWER, FORMAT_DAMAGED */
  constructor(stateDir: string, owner: string) {
    this.#directory = join(stateDir, FOLDER, nameOf(owner));
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(this.#directory)) {
      if (!name.endsWith('.json')) continue;
      const path = join(this.#directory, name);
      const visit = parse(readFileSync(path, 'utf8'), path);
      this.#visits.set(visit.key, visit);
    }
  }

  get made(): VisitJournal['made'] {
    const path = join(this.#directory, MADE);
    const made = existsSync(path) ? readFileSync(path, 'utf8').trim() : 'new';
    return made === 'whole' || made === 'sealed' ? made : 'new';
  }

  async note(made: 'whole' | 'sealed'): Promise<void> {
    if (this.made === made) return;
    await this.#write(join(this.#directory, MADE), `${made}\n`);
  }

  all(): Iterable<Visit> {
    return this.#visits.values();
  }

  async set(visit: Visit): Promise<void> {
    await this.#write(this.#pathOf(visit.key), JSON.stringify({ ...CURRENT_FORMAT, ...visit }));
    this.#visits.set(visit.key, visit);
  }

  async delete(key: DocumentKey): Promise<void> {
    await rm(this.#pathOf(key), { force: true });
    this.#visits.delete(key);
  }

  async #write(path: string, text: string): Promise<void> {
    try {
      await replaceFile(path, text);
      await syncDirectory(this.#directory);
    } catch (error) {
      throw denied(path, error);
    }
  }

  #pathOf(key: DocumentKey): string {
    return join(this.#directory, `${nameOf(key)}.json`);
  }
}

function nameOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 24);
}

function parse(text: string, path: string): Visit {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    found = undefined;
  }
  checkFormat(found, `the record of a visit in ${path}`);
  return found as Visit;
}
