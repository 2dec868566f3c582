import * as nodeFs from 'node:fs';
import { dirname, join } from 'node:path';
import { checkFormat, CURRENT_FORMAT } from '@tokenmirror/core';
import { createFile, hasCode, replaceFile, syncDirectory } from '@tokenmirror/files';
import { denied, diskFull } from './denied.js';

/** The system calls of an update, so that a test can fail or end at each of them. */
export type ConfigCalls = Pick<
  typeof nodeFs,
  'openSync' | 'fstatSync' | 'writeSync' | 'fsyncSync' | 'ftruncateSync' | 'closeSync' | 'readFileSync' | 'rmSync'
>;

const JOURNAL = 'config-update.json';

/**
 * Writes `config.yaml` on its inode without ever showing a prefix of it: CLIProxyAPI watches the inode, and a file cut before `api-keys` is
 * valid YAML that opens the proxy to everyone. The new text is journalled; the file is grown with newlines if need be, which is where a full
 * disk shows, harmlessly; the text goes over it in one write, padded with newlines to the full length; the padding is cut off.
 */
export class ConfigFile {
  readonly #path: string;
  readonly #journal: string;
  readonly #calls: ConfigCalls;

  constructor(path: string, stateDir: string, calls: ConfigCalls = nodeFs) {
    this.#path = path;
    this.#journal = join(stateDir, JOURNAL);
    this.#calls = calls;
  }

  /** Replaces the text if it still is `expected`; `undefined` creates the file. After a failure the journal stays, for `recover`. */
  async write(text: string, expected: string | undefined): Promise<boolean> {
    this.recover();
    if (expected === undefined) return createFile(this.#path, text);
    await replaceFile(this.#journal, JSON.stringify({ ...CURRENT_FORMAT, old: expected, new: text }));
    await syncDirectory(dirname(this.#journal));
    const done = this.#overwrite(text, expected);
    this.#calls.rmSync(this.#journal, { force: true });
    return done;
  }

  /** Finishes an update that a crash or a failure interrupted, unless somebody else has written the file since. */
  recover(): void {
    let text: string;
    try {
      text = this.#calls.readFileSync(this.#journal, 'utf8');
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return;
      throw denied(this.#journal, error);
    }
    const journal = parseJournal(text);
    const now = this.#text();
    if (journal !== undefined && now !== undefined && isBetween(now, journal.old, journal.new)) this.#overwrite(journal.new, now);
    this.#calls.rmSync(this.#journal, { force: true });
  }

  #overwrite(text: string, expected: string): boolean {
    const { openSync, fstatSync, writeSync, fsyncSync, ftruncateSync, closeSync } = this.#calls;
    let descriptor: number;
    try {
      descriptor = openSync(this.#path, 'r+');
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return false;
      throw denied(this.#path, error);
    }
    try {
      const content = Buffer.from(text);
      const size = fstatSync(descriptor).size;
      if (this.#text() !== expected) return false;
      if (content.length > size) this.#grow(descriptor, size, content.length - size);
      const whole = padded(content, Math.max(size, content.length));
      while (writeSync(descriptor, whole, 0, whole.length, 0) < whole.length);
      fsyncSync(descriptor);
      ftruncateSync(descriptor, content.length);
      fsyncSync(descriptor);
      return true;
    } finally {
      closeSync(descriptor);
    }
  }

  #grow(descriptor: number, size: number, by: number): void {
    const { writeSync, ftruncateSync } = this.#calls;
    try {
      if (writeSync(descriptor, Buffer.alloc(by, '\n'), 0, by, size) === by) return;
    } catch (error) {
      ftruncateSync(descriptor, size);
      throw denied(this.#path, error);
    }
    ftruncateSync(descriptor, size);
    throw diskFull(this.#path, undefined);
  }

  #text(): string | undefined {
    try {
      return this.#calls.readFileSync(this.#path, 'utf8');
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return undefined;
      throw denied(this.#path, error);
    }
  }
}

/** A journal that cannot be read was not written to its end, so the update had not begun. A parser's message would quote it. */
function parseJournal(text: string): { readonly old: string; readonly new: string } | undefined {
  try {
    const journal = JSON.parse(text) as { old: unknown; new: unknown };
    checkFormat(journal, 'the journal of a config update');
    return typeof journal.old === 'string' && typeof journal.new === 'string' ? { old: journal.old, new: journal.new } : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** True for what an interrupted update can have left: the new text up to some byte and the old one from there, either with newlines behind it. */
function isBetween(now: string, before: string, after: string): boolean {
  const [bytes, old, target] = [Buffer.from(now), Buffer.from(before), Buffer.from(after)];
  const wanted = padded(target, bytes.length);
  let same = 0;
  while (same < bytes.length && bytes[same] === wanted[same]) same += 1;
  if (same === bytes.length) return true;
  return bytes.length >= old.length && bytes.subarray(same).equals(padded(old, bytes.length).subarray(same));
}

function padded(text: Buffer, length: number): Buffer {
  const result = Buffer.alloc(length, '\n');
  text.copy(result);
  return result;
}
