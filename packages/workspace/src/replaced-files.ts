import { hash } from 'node:crypto';
import { linkSync, readdirSync, readFileSync, renameSync, rmSync, type Dirent } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Clock } from '@tokenmirror/core';
import { hasCode } from '@tokenmirror/files';

/** CLIProxyAPI may hold a file open for this long while it is replaced: a refresh is over after 93 s. */
const KEPT_MS = 120_000;
const NAME = /^(\.tokenmirror-[0-9a-f]{16})-([0-9a-f]{16})\.replaced$/;

interface Kept {
  readonly path: string;
  /** Of the content that was read last. */
  known: string;
  readonly since: number;
}

/**
 * Keeps the inodes of files that were replaced or removed, under hidden names beside them: what is written into one of them at that very moment can still be
 * read there. The name tells which file it was and what it held, so that a restart knows as much.
 */
export class ReplacedFiles {
  readonly #clock: Clock;
  readonly #kept = new Map<string, Kept[]>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Finds what a process before this one kept. */
  recover(directory: string): void {
    for (const entry of entriesOf(directory)) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) this.recover(path);
      const [, file, known] = NAME.exec(entry.name) ?? [];
      if (file !== undefined && known !== undefined) this.#add(join(directory, file), { path, known, since: this.#clock.monotonic() });
    }
  }

  /** Gives the file a second name, before another takes its place. Where the file system has no hard links, it is not kept. */
  keep(path: string, content: string): void {
    try {
      this.#addNew(path, content, linkSync);
    } catch {
      return;
    }
  }

  /** Takes the file away under its hidden name; `false` when it held something else than `content`, which then is back in its place. */
  takeAway(path: string, content: string): boolean {
    const kept = this.#addNew(path, content, renameSync);
    if (shortHash(readFileSync(kept.path)) === kept.known) return true;
    try {
      linkSync(kept.path, path);
      rmSync(kept.path);
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
    }
    return false;
  }

  holds(path: string): boolean {
    return this.#kept.has(idOf(path));
  }

  /** What was written since into files that stood at `path`. Those that are old enough are let go. */
  late(path: string): string[] {
    const id = idOf(path);
    const texts: string[] = [];
    const kept = (this.#kept.get(id) ?? []).filter((one) => {
      const content = read(one.path);
      if (content === undefined) return false;
      const found = shortHash(content);
      if (found !== one.known && content.length > 0) texts.push(content.toString('utf8'));
      if (content.length > 0) one.known = found;
      if (this.#clock.monotonic() - one.since <= KEPT_MS) return true;
      rmSync(one.path, { force: true });
      return false;
    });
    if (kept.length > 0) this.#kept.set(id, kept);
    else this.#kept.delete(id);
    return texts;
  }

  /** Lets all of them go into which nothing was written; the others are for the next start. */
  release(): void {
    for (const { path, known } of [...this.#kept.values()].flat()) {
      const content = read(path);
      if (content !== undefined && shortHash(content) === known) rmSync(path, { force: true });
    }
    this.#kept.clear();
  }

  #addNew(path: string, content: string, move: (from: string, to: string) => void): Kept {
    const known = shortHash(content);
    const kept = { path: `${idOf(path)}-${known}.replaced`, known, since: this.#clock.monotonic() };
    rmSync(kept.path, { force: true });
    move(path, kept.path);
    this.#add(idOf(path), kept);
    return kept;
  }

  #add(id: string, kept: Kept): void {
    const others = (this.#kept.get(id) ?? []).filter(({ path }) => path !== kept.path);
    this.#kept.set(id, [...others, kept]);
  }
}

function entriesOf(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return [];
  }
}

function idOf(path: string): string {
  return join(dirname(path), `.tokenmirror-${shortHash(basename(path))}`);
}

function shortHash(content: string | Uint8Array): string {
  return hash('sha256', content).slice(0, 16);
}

function read(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}
