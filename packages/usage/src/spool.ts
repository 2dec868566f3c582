import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const OPEN = 'open.jsonl';
const ROOM = 'room';
const ROOM_BYTES = 2 * 1024 * 1024;

/**
 * Records that were taken out of CLIProxyAPI and are not in the ledger yet, one a line, exactly as they came. What was popped exists nowhere else, so it is
 * here before anything is done with it. The directory is for its owner alone: the records hold keys in clear.
 */
export class Spool {
  readonly #directory: string;
  #file: number | undefined;
  #sequence = 0;

  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  /** Durable when it returns. @throws an error of the file system */
  add(records: readonly string[]): void {
    if (records.length === 0) return;
    this.#file ??= openSync(join(this.#directory, OPEN), 'a', 0o600);
    writeFileSync(this.#file, records.map((record) => `${record.replaceAll('\n', ' ')}\n`).join(''));
    fsyncSync(this.#file);
  }

  /** Everything that waits, in batches; each is forgotten when it was taken. A line that was cut by a crash is the last one, and no record. */
  async drain(take: (records: readonly string[]) => Promise<void>): Promise<void> {
    this.#close();
    for (const name of this.#waiting()) {
      const path = join(this.#directory, name);
      await take(readFileSync(path, 'utf8').split('\n').filter(Boolean));
      rmSync(path);
    }
  }

  /** Whether a large batch would find a place: what was popped and cannot be written down is gone. */
  hasRoom(): boolean {
    const path = join(this.#directory, ROOM);
    try {
      writeFileSync(path, Buffer.alloc(ROOM_BYTES), { mode: 0o600 });
      return true;
    } catch {
      return false;
    } finally {
      rmSync(path, { force: true });
    }
  }

  /** Nothing waits for the ledger. */
  get isEmpty(): boolean {
    return this.#file === undefined && this.#waiting().length === 0;
  }

  #close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
    const names = readdirSync(this.#directory);
    if (!names.includes(OPEN)) return;
    this.#sequence += 1;
    const name = `${String(Date.now()).padStart(15, '0')}-${String(process.pid)}-${String(this.#sequence).padStart(6, '0')}.jsonl`;
    renameSync(join(this.#directory, OPEN), join(this.#directory, name));
  }

  #waiting(): string[] {
    return readdirSync(this.#directory)
      .filter((name) => name.endsWith('.jsonl') && name !== OPEN)
      .sort();
  }
}
