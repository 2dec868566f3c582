import { lstatSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { dirname, join, sep } from 'node:path';
import { readCredentialPath, shownName, type RefusedName, type ScannedFile, type StatHint } from '@tokenmirror/core';
import { denied } from './denied.js';
import { hintOf } from './stable-file.js';

/** Every credential below an auth directory by name and stat hint, and the names that cannot be taken. No content is read. */
export class DirectoryScan {
  readonly files: ScannedFile[] = [];
  readonly refused: RefusedName[] = [];
  readonly #authDir: string;

  /** @throws TokenmirrorError WORKSPACE_DENIED */
  constructor(authDir: string) {
    this.#authDir = authDir;
    this.#scan(authDir, '');
  }

  #scan(directory: string, prefix: string): void {
    let entries;
    try {
      entries = readdirSync(directory, { withFileTypes: true });
    } catch (error) {
      if (prefix === '') throw denied(directory, error);
      this.refused.push({ name: shownName(prefix), reason: 'the directory cannot be read by this user' });
      return;
    }
    for (const entry of entries) {
      const path = `${prefix}${entry.name}`;
      if (entry.isDirectory()) {
        if (!entry.name.startsWith('.')) this.#scan(join(directory, entry.name), `${path}/`);
      } else this.#take(path, join(directory, entry.name));
    }
  }

  #take(path: string, file: string): void {
    const reading = readCredentialPath(path);
    if (!reading.ok) {
      if (!reading.ignored) this.refused.push({ name: shownName(path), reason: reading.reason });
      return;
    }
    if (isLinkOutOf(this.#authDir, file)) {
      this.refused.push({ name: path, reason: 'it is a symbolic link that leaves the workspace' });
      return;
    }
    const stat = statOf(file);
    if (stat !== undefined) this.files.push({ key: reading.key, stat });
  }
}

export function statOf(path: string): StatHint | undefined {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat?.isFile() === true ? hintOf(stat) : undefined;
}

/** True for a symbolic link whose target lies outside of a directory, or nowhere. */
export function isLinkOutOf(directory: string, path: string): boolean {
  if (!(lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() ?? false)) return false;
  try {
    return !isBelow(directory, realpathSync(path));
  } catch {
    return true;
  }
}

/** True for a path whose directory is really another one, outside: a symbolic link stands in between. */
export function isBehindLinkOutOf(directory: string, path: string): boolean {
  try {
    return !isBelow(directory, `${realpathSync(dirname(path))}${sep}`);
  } catch {
    return false;
  }
}

function isBelow(directory: string, real: string): boolean {
  return real.startsWith(realpathSync(directory) + sep);
}
