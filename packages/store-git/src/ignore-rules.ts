import createRules, { type Ignore } from 'ignore';
import type { Objects } from './repository.js';
import type { Snapshot } from './snapshot.js';

/** The `.gitignore` files of a commit. A document that they exclude would be missing from every other clone that adds files by hand. */
export class IgnoreRules {
  readonly #snapshot: Snapshot;
  readonly #objects: Objects;
  readonly #parsed = new Map<string, Ignore>();

  constructor(snapshot: Snapshot, objects: Objects) {
    this.#snapshot = snapshot;
    this.#objects = objects;
  }

  async excludes(path: string): Promise<boolean> {
    const segments = path.split('/');
    for (let depth = 0; depth < segments.length; depth += 1) {
      const rules = await this.#rulesIn(segments.slice(0, depth).join('/'));
      if (rules?.ignores(segments.slice(depth).join('/')) === true) return true;
    }
    return false;
  }

  async #rulesIn(directory: string): Promise<Ignore | undefined> {
    const oid = this.#snapshot.files.get(directory === '' ? '.gitignore' : `${directory}/.gitignore`);
    if (oid === undefined) return undefined;
    const rules = this.#parsed.get(oid) ?? createRules().add(await this.#objects.text(oid));
    this.#parsed.set(oid, rules);
    return rules;
  }
}
