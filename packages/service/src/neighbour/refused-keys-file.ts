import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { RefusedKeys } from '@tokenmirror/cliproxy-client';

const FILE = 'management-key-refused';

/** Which management key was refused, as a hash, in the state directory: on disk before anything else is asked. */
export class RefusedKeysFile implements RefusedKeys {
  readonly #path: string;

  constructor(stateDir: string) {
    this.#path = join(stateDir, FILE);
  }

  read(): string | undefined {
    try {
      return readFileSync(this.#path, 'utf8').trim();
    } catch {
      return undefined;
    }
  }

  write(id: string): void {
    mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 });
    writeFileSync(this.#path, `${id}\n`, { mode: 0o600 });
  }
}
