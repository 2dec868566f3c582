import type { Clock } from '@tokenmirror/core';
import type { Measured } from './facts.js';
import type { Chance, Disk } from './ports.js';

export type Fields = Readonly<Record<string, unknown>>;

/** A credential as it is in memory. */
export interface LoadedCredential {
  readonly path: string;
  fields: Fields;
  /** Until when it is not used, by the monotonic clock. */
  suspendedUntil: number;
  /** What its last failed request said. */
  message: string;
  /** Until when it is not refreshed. Outlives changed files. */
  pausedUntil: number;
  refreshing: boolean;
  /** Requests that were made with it. */
  succeeded: number;
  failed: number;
}

const RECHECK_REMOVAL_MS = 50;
const REMOVAL_DEBOUNCE_MS = 1000;

/** The credentials in memory, and how they follow the files: by events on direct children, with the measured delays. */
export class CredentialPool {
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #chance: Chance;
  readonly #measured: Measured;
  readonly #loaded = new Map<string, LoadedCredential>();
  /** Told of every credential whose content changed. */
  readonly #changed: (credential: LoadedCredential) => void;
  #stopWatching: () => void = () => undefined;

  constructor(parts: { disk: Disk; clock: Clock; chance: Chance; measured: Measured }, changed: (credential: LoadedCredential) => void) {
    this.#disk = parts.disk;
    this.#clock = parts.clock;
    this.#chance = parts.chance;
    this.#measured = parts.measured;
    this.#changed = changed;
  }

  start(): void {
    for (const path of this.#disk.list()) this.#load(path);
    this.#stopWatching = this.#disk.watchAuths((name) => {
      if (!this.#measured.has('hot-reload')) return;
      this.#clock.after(this.#chance.reloadDelayMs(), () => {
        if (this.#disk.read(name) === undefined) this.#noticeRemoval(name);
        else this.#load(name);
      });
    }, !this.#measured.has('direct-children-only'));
  }

  stop(): void {
    this.#stopWatching();
  }

  all(): LoadedCredential[] {
    return [...this.#loaded.values()];
  }

  get(path: string): LoadedCredential | undefined {
    return this.#loaded.get(path);
  }

  /** Saves what is in memory over the file, when it differs. */
  save(credential: LoadedCredential): void {
    const { path } = credential;
    const onDisk = parseCredential(this.#disk.read(path));
    if (onDisk !== undefined && canonical(onDisk) === canonical(this.#withOwnFields(credential.fields))) return;
    credential.fields = this.#withOwnFields(credential.fields);
    this.#disk.writeInPlace(path, this.#textOf(credential.fields));
  }

  /** Puts a credential into memory and onto the disk, as a management upload or a refresh does. */
  put(path: string, fields: Fields): void {
    const credential = this.#remember(path, fields);
    this.#disk.writeInPlace(path, this.#textOf(credential.fields));
  }

  forget(path: string): void {
    this.#loaded.delete(path);
  }

  #load(path: string): void {
    const text = this.#disk.read(path);
    const fields = parseCredential(text);
    if (fields === undefined) {
      if (!this.#measured.has('ignores-empty-credentials')) this.#loaded.delete(path);
      return;
    }
    this.#remember(path, fields);
  }

  #remember(path: string, fields: Fields): LoadedCredential {
    const known = this.#loaded.get(path);
    if (known === undefined) {
      const credential: LoadedCredential = {
        path,
        fields,
        suspendedUntil: 0,
        message: '',
        pausedUntil: 0,
        refreshing: false,
        succeeded: 0,
        failed: 0,
      };
      this.#loaded.set(path, credential);
      this.#changed(credential);
      return credential;
    }
    if (canonical(known.fields) === canonical(fields)) return known;
    known.fields = fields;
    this.#changed(known);
    if (this.#measured.has('changed-value-revives')) known.suspendedUntil = 0;
    return known;
  }

  #noticeRemoval(path: string): void {
    if (!this.#loaded.has(path) || !this.#measured.has('removal-unloads')) return;
    this.#clock.after(RECHECK_REMOVAL_MS, () => {
      if (this.#disk.read(path) !== undefined) return;
      this.#clock.after(REMOVAL_DEBOUNCE_MS, () => {
        if (this.#disk.read(path) === undefined) this.#loaded.delete(path);
      });
    });
  }

  #withOwnFields(fields: Fields): Fields {
    if (!this.#measured.has('sorts-keys')) return fields;
    return { disabled: false, ...fields };
  }

  #textOf(fields: Fields): string {
    if (!this.#measured.has('sorts-keys')) return JSON.stringify(fields);
    return JSON.stringify(Object.fromEntries(Object.entries(this.#withOwnFields(fields)).sort(([a], [b]) => (a < b ? -1 : 1))));
  }
}

export function parseCredential(text: string | undefined): Fields | undefined {
  if (text === undefined || text.trim() === '') return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;
  } catch {
    return undefined;
  }
}

/** The same for any order of keys. */
export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([name, inner]) => `${JSON.stringify(name)}:${canonical(inner)}`).join(',')}}`;
}

export function textField(fields: Fields, name: string): string {
  const value = fields[name];
  return typeof value === 'string' ? value : '';
}
