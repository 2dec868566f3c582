import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { RefusedKeys } from '@tokenmirror/cliproxy-client';

const FILE = 'management-keys-refused';
const LONGEST = 20;

/** Which management keys were refused, as hashes, in the state directory: on disk before anything else is asked, and in memory where the disk is full. */
export class RefusedKeysFile implements RefusedKeys {
  readonly #path: string;
  readonly #refused = new Set<string>();

  constructor(stateDir: string) {
    this.#path = join(stateDir, FILE);
  }

  has(id: string): boolean {
    return this.#refused.has(id) || this.#onDisk().includes(id);
  }

  add(id: string): void {
    this.#refused.add(id);
    try {
      mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
      const all = [...new Set([...this.#onDisk(), id])].slice(-LONGEST);
      writeFileSync(this.#path, `${all.join('\n')}\n`, { mode: 0o600 });
    } catch {
      return;
    }
  }

  #onDisk(): string[] {
    try {
      return readFileSync(this.#path, 'utf8').split('\n').filter(Boolean);
    } catch {
      return [];
    }
  }
}
