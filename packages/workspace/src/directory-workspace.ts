import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  CONFIG_KEY,
  credentialPath,
  readDocument,
  TokenmirrorError,
  type Clock,
  type Document,
  type DocumentKey,
  type LocalReading,
  type LateText,
  type Log,
  type Presence,
  type Scan,
  type Workspace,
  type WorkspaceWrite,
} from '@tokenmirror/core';
import { makeDirectory, removeLeftovers, replaceFile } from '@tokenmirror/files';
import { ConfigFile } from './config-file.js';
import { denied } from './denied.js';
import { DirectoryScan, isBehindLinkOutOf, isLinkOutOf, statOf } from './directory-scan.js';
import type { Locations } from './locations.js';
import { readMarker, writeMarker } from './marker.js';
import { readWholeFile } from './stable-file.js';
import { ReplacedFiles } from './replaced-files.js';
import { Watcher } from './watcher.js';

/** A file must have been gone for this long to count as deleted: longer than the second for which CLIProxyAPI itself waits. */
const QUIET_MS = 1500;
/** An invalid or empty file is given this long to become valid before it is judged: writers truncate first. */
const SETTLE_MS = 1000;
/** A file that is being written is read again after 1 ms, then ever later, up to this. */
const LONGEST_RETRY_MS = 50;
/** A prefix of `config.yaml` is valid YAML, so the file counts only after it was left alone for this long. */
const CONFIG_QUIET_MS = 300;
/** File times are too coarse to tell two writes apart that are closer than this. */
const TIMES_SETTLE_MS = 50;

/** The auth directory and the config file on a local disk. */
export class DirectoryWorkspace implements Workspace {
  readonly description: string;
  readonly #locations: Locations;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #maxBytes: number;
  readonly #config: ConfigFile | undefined;
  readonly #absentSince = new Map<DocumentKey, number>();
  readonly #replaced: ReplacedFiles;
  readonly #unsettledSince = new Map<DocumentKey, number>();
  #replicaId: string | undefined;

  constructor(locations: Locations, clock: Clock, log: Log, maxDocumentBytes: number) {
    this.#locations = locations;
    this.#clock = clock;
    this.#log = log;
    this.#maxBytes = maxDocumentBytes;
    this.#config = locations.configFile === undefined ? undefined : new ConfigFile(locations.configFile, locations.stateDir);
    this.#replaced = new ReplacedFiles(clock);
    this.description = locations.authDir;
  }

  /** Finishes what a crash interrupted. To be called before anything is read. */
  async recover(): Promise<void> {
    this.#config?.recover();
    this.#replaced.recover(this.#locations.authDir);
    await removeLeftovers(this.#locations.stateDir);
    await removeLeftovers(this.#locations.authDir, 'with sub-directories');
    if (this.#locations.configFile !== undefined) await removeLeftovers(dirname(this.#locations.configFile));
  }

  holds(key: DocumentKey): boolean {
    if (key === CONFIG_KEY) return this.#locations.configFile !== undefined;
    return this.#locations.takes?.(credentialPath(key)) ?? true;
  }

  /** The replica whose marker was in the auth directory when it was first looked at. */
  get replicaId(): string | undefined {
    try {
      this.#replicaId ??= readMarker(this.#locations.authDir);
      return this.#replicaId;
    } catch (error) {
      throw denied(this.#locations.authDir, error);
    }
  }

  /** The directory of another replica, mounted here meanwhile, is not marked as ours. */
  presence(): Presence {
    const { authDir } = this.#locations;
    try {
      if (!statSync(authDir).isDirectory()) return 'missing';
      const found = readMarker(authDir);
      return found !== undefined && found === this.replicaId ? 'marked' : 'unmarked';
    } catch (error) {
      if (error instanceof TokenmirrorError) throw error;
      return 'missing';
    }
  }

  async mark(replicaId: string): Promise<void> {
    try {
      await writeMarker(this.#locations.authDir, replicaId);
      this.#replicaId = replicaId;
    } catch (error) {
      throw denied(this.#locations.authDir, error);
    }
  }

  scan(): Promise<Scan> {
    this.#replaced.expire();
    const found = new DirectoryScan(this.#locations.authDir);
    const [files, refused] = [found.files.filter(({ key }) => this.holds(key)), found.refused];
    const config = this.#locations.configFile === undefined ? undefined : statOf(this.#locations.configFile);
    if (config !== undefined) files.push({ key: CONFIG_KEY, stat: config });
    return Promise.resolve({ files, refused });
  }

  read(key: DocumentKey): Promise<LocalReading> {
    return Promise.resolve(this.#readNow(key));
  }

  #readNow(key: DocumentKey): LocalReading {
    const path = this.#pathOf(key);
    if (key !== CONFIG_KEY && credentialPath(key).includes('/') && isBehindLinkOutOf(this.#locations.authDir, path))
      return { state: 'refused', reason: 'its directory is a symbolic link that leaves the workspace' };
    let file = readWholeFile(path, this.#maxBytes);
    if (file.state === 'link' && (key === CONFIG_KEY || !isLinkOutOf(this.#locations.authDir, path)))
      file = readWholeFile(path, this.#maxBytes, true);
    if (file.state !== 'absent') this.#absentSince.delete(key);
    switch (file.state) {
      case 'absent':
        return this.#readAbsent(key);
      case 'link':
        return { state: 'refused', reason: 'it is a symbolic link that leaves the workspace' };
      case 'unreadable':
        return { state: 'refused', reason: file.reason };
      case 'too large':
        return { state: 'refused', reason: `it has ${String(file.size)} bytes, more than the ${String(this.#maxBytes)} allowed` };
      case 'changing':
        return { state: 'unsettled', reason: 'it is being written', retryInMs: this.#retryAfter(key) };
      case 'content': {
        const age = this.#clock.now() - file.written.mtime;
        if (key === CONFIG_KEY && age >= 0 && age < CONFIG_QUIET_MS) {
          return { state: 'unsettled', reason: 'it was written a moment ago', retryInMs: CONFIG_QUIET_MS - age };
        }
        const reading = readDocument(key, file.bytes, this.#maxBytes);
        if (reading.state === 'document') {
          this.#unsettledSince.delete(key);
          const stat = age > TIMES_SETTLE_MS ? file.stat : undefined;
          return { state: 'document', document: reading.document, text: file.bytes.toString('utf8'), stat, written: file.written };
        }
        const mayBePartial = reading.state === 'blank' || reading.malformed;
        const retryInMs = this.#retryAfter(key);
        if (mayBePartial && retryInMs > 0) return { state: 'unsettled', reason: reading.reason, retryInMs };
        return reading.state === 'blank'
          ? { state: 'blank', reason: reading.reason, text: file.bytes.toString('utf8') }
          : { state: 'refused', reason: reading.reason };
      }
    }
  }

  /** The file as it is now, or `undefined` when it cannot be read whole. */
  rawText(key: DocumentKey): string | undefined {
    const file = readWholeFile(this.#pathOf(key), this.#maxBytes, true);
    return file.state === 'content' ? file.bytes.toString('utf8') : undefined;
  }

  async write(key: DocumentKey, document: Document, expected: string | undefined): Promise<WorkspaceWrite> {
    const path = this.#pathOf(key);
    try {
      // A directory that is gone may be a disk that is not mounted.
      if (key !== CONFIG_KEY && !existsSync(this.#locations.authDir)) return { status: 'changed' };
      await makeDirectory(dirname(path));
      const done =
        key === CONFIG_KEY
          ? ((await this.#config?.write(document.text, expected)) ?? false)
          : await replaceFile(path, document.text, { confirm: () => this.#isToBeReplaced(path, expected) });
      return done ? { status: 'written', stat: undefined } : { status: 'changed' };
    } catch (error) {
      throw denied(path, error);
    }
  }

  remove(key: DocumentKey, expected: string): Promise<WorkspaceWrite> {
    const path = this.#pathOf(key);
    return new Promise((resolve) => {
      try {
        const isGone = this.#stillHas(path, expected) && this.#replaced.takeAway(path, expected);
        resolve(isGone ? { status: 'written', stat: undefined } : { status: 'changed' });
      } catch (error) {
        throw denied(path, error);
      }
    });
  }

  keepsReplaced(key: DocumentKey): boolean {
    return key !== CONFIG_KEY && this.#replaced.holds(this.#pathOf(key));
  }

  late(key: DocumentKey): Promise<readonly LateText[]> {
    return Promise.resolve(this.keepsReplaced(key) ? this.#replaced.late(this.#pathOf(key)) : []);
  }

  /** To be called when nothing is written any more. */
  release(): void {
    this.#replaced.release();
  }

  async watch(hint: (key: DocumentKey | undefined) => void): Promise<() => Promise<void>> {
    const watcher = new Watcher(this.#locations, this.#clock, this.#log, hint);
    await watcher.start();
    return () => watcher.stop();
  }

  #pathOf(key: DocumentKey): string {
    if (key !== CONFIG_KEY) return join(this.#locations.authDir, credentialPath(key));
    if (this.#locations.configFile !== undefined) return this.#locations.configFile;
    throw new TokenmirrorError('INTERNAL', 'a config was to be read or written where none is mirrored', 'Please report this.');
  }

  #readAbsent(key: DocumentKey): LocalReading {
    this.#unsettledSince.delete(key);
    if (key !== CONFIG_KEY && this.presence() !== 'marked') {
      this.#absentSince.delete(key);
      return { state: 'absent', confirmInMs: QUIET_MS };
    }
    const now = this.#clock.monotonic();
    const since = this.#absentSince.get(key) ?? now;
    this.#absentSince.set(key, since);
    return { state: 'absent', confirmInMs: Math.max(0, since + QUIET_MS - now) };
  }

  /** When to read an unsettled file again, in ms; 0 when it had its time. */
  #retryAfter(key: DocumentKey): number {
    const now = this.#clock.monotonic();
    const since = this.#unsettledSince.get(key) ?? now;
    this.#unsettledSince.set(key, since);
    return now - since >= SETTLE_MS ? 0 : Math.min(LONGEST_RETRY_MS, Math.max(1, (now - since) / 2));
  }

  #isToBeReplaced(path: string, expected: string | undefined): boolean {
    if (!this.#stillHas(path, expected)) return false;
    if (expected !== undefined) this.#replaced.keep(path, expected);
    return true;
  }

  #stillHas(path: string, expected: string | undefined): boolean {
    const file = readWholeFile(path, Number.MAX_SAFE_INTEGER, true);
    if (file.state === 'absent') return expected === undefined;
    return file.state === 'content' && expected !== undefined && file.bytes.equals(Buffer.from(expected));
  }
}
