import { hash, randomBytes } from 'node:crypto';
import { linkSync, readdirSync, readFileSync, renameSync, rmSync, statSync, type Dirent } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Clock, LateText } from '@tokenmirror/core';
import { hasCode } from '@tokenmirror/files';

/** CLIProxyAPI may hold a file open for this long while it is replaced: a refresh may pause for 30 s and is over 93 s later; and a claim is held for 150 s. */
const KEPT_MS = 180_000;
/** What was written late and belongs to no document that anybody looks at is let go after this, and what was opened and never written. */
const ORPHANED_MS = 3_600_000;
const NAME = /^(\.tokenmirror-[0-9a-f]{16})-([0-9a-f]{16})-[0-9a-f]{8}\.replaced$/;

interface Kept {
  readonly id: string;
  readonly path: string;
  /** Of the content that needs no further look. */
  readonly known: string;
  /** By the monotonic clock. */
  readonly since: number;
}

/**
 * Keeps the inodes of files that were replaced or removed, under hidden names beside them: what is written into one of them at that very moment can still be
 * read there. The name tells which file it was and what of its content is known, so that a restart knows as much.
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
      if (file === undefined || known === undefined) continue;
      const age = Math.max(0, this.#clock.now() - (statSync(path, { throwIfNoEntry: false })?.ctimeMs ?? 0));
      this.#add({ id: join(directory, file), path, known, since: this.#clock.monotonic() - age });
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
    this.#putBack(kept, path);
    return false;
  }

  holds(path: string): boolean {
    return this.#kept.has(idOf(path));
  }

  /** What was written since into files that stood at `path`. */
  late(path: string): LateText[] {
    return (this.#kept.get(idOf(path)) ?? []).flatMap((kept) => {
      const content = read(kept.path);
      if (content === undefined || content.length === 0 || shortHash(content) === kept.known) return [];
      const taken = (): void => {
        this.#know(kept, content);
      };
      return [{ text: content.toString('utf8'), taken }];
    });
  }

  /** Lets go what is old enough. */
  expire(): void {
    for (const kept of [...this.#kept.values()].flat()) {
      const age = this.#clock.monotonic() - kept.since;
      if (age > ORPHANED_MS || (age > KEPT_MS && isAsKnown(kept))) this.#letGo(kept);
    }
  }

  /** Lets all of them go into which nothing was written; the others are for the next start. */
  release(): void {
    for (const kept of [...this.#kept.values()].flat()) if (isAsKnown(kept)) this.#letGo(kept);
  }

  #addNew(path: string, content: string, move: (from: string, to: string) => void): Kept {
    const [id, known] = [idOf(path), shortHash(content)];
    for (const same of this.#kept.get(id)?.filter((kept) => kept.known === known && isAsKnown(kept)) ?? []) this.#letGo(same);
    const kept = { id, path: nameOf(id, known), known, since: this.#clock.monotonic() };
    move(path, kept.path);
    this.#add(kept);
    return kept;
  }

  #putBack(kept: Kept, path: string): void {
    try {
      linkSync(kept.path, path);
      this.#letGo(kept);
    } catch (error) {
      if (hasCode(error, 'EEXIST')) return;
      renameSync(kept.path, path);
      this.#remove(kept);
    }
  }

  /** The content was dealt with, which the name says from now on. */
  #know(kept: Kept, content: Buffer): void {
    const known = shortHash(content);
    const renamed = { ...kept, known, path: nameOf(kept.id, known) };
    renameSync(kept.path, renamed.path);
    this.#remove(kept);
    this.#add(renamed);
  }

  #letGo(kept: Kept): void {
    rmSync(kept.path, { force: true });
    this.#remove(kept);
  }

  #add(kept: Kept): void {
    this.#kept.set(kept.id, [...(this.#kept.get(kept.id) ?? []), kept]);
  }

  #remove({ id, path }: Kept): void {
    const others = (this.#kept.get(id) ?? []).filter((kept) => kept.path !== path);
    if (others.length > 0) this.#kept.set(id, others);
    else this.#kept.delete(id);
  }
}

/** Also true for one that is gone. An empty one was opened to be written: whoever did that may have been frozen since. */
function isAsKnown({ path, known }: Kept): boolean {
  const content = read(path);
  return content === undefined || (content.length > 0 && shortHash(content) === known);
}

function idOf(path: string): string {
  return join(dirname(path), `.tokenmirror-${shortHash(basename(path))}`);
}

function nameOf(id: string, known: string): string {
  return `${id}-${known}-${randomBytes(4).toString('hex')}.replaced`;
}

function shortHash(content: string | Uint8Array): string {
  return hash('sha256', content).slice(0, 16);
}

function entriesOf(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return [];
  }
}

function read(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}
