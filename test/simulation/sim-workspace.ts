import {
  isCredentialKey,
  readDocument,
  readCredentialPath,
  type Document,
  type DocumentKey,
  type LateText,
  type LocalReading,
  type Presence,
  type Scan,
  type StatHint,
  type Workspace,
  type WorkspaceWrite,
} from '@tokenmirror/core';
import type { Inode, SimDisk } from './sim-disk.js';
import type { SimProcess } from './virtual-time.js';

const QUIET_MS = 1500;
const SETTLE_MS = 1000;
const TIMES_SETTLE_MS = 50;
const KEPT_MS = 180_000;
const ORPHANED_MS = 3_600_000;

/** The workspace of a daemon on a simulated disk, with the steps of the real one: read; verify, then rename. */
export class SimWorkspace implements Workspace {
  readonly description = 'simulated';
  readonly #disk: SimDisk;
  readonly #process: SimProcess;
  readonly #random: () => number;
  readonly #absentSince = new Map<DocumentKey, number>();
  readonly #unsettledSince = new Map<DocumentKey, number>();
  #id: string | undefined;

  constructor(disk: SimDisk, process: SimProcess, random: () => number) {
    this.#disk = disk;
    this.#process = process;
    this.#random = random;
    this.#id = disk.marker;
  }

  holds(key: DocumentKey): boolean {
    return isCredentialKey(key);
  }

  presence(): Presence {
    return this.#disk.marker !== undefined && this.#disk.marker === this.#id ? 'marked' : 'unmarked';
  }

  async mark(replicaId: string): Promise<void> {
    await this.#process.step(0.2);
    this.#disk.marker = replicaId;
    this.#id = replicaId;
  }

  scan(): Promise<Scan> {
    const files = [...this.#disk.files].flatMap(([path, inode]) => {
      const reading = readCredentialPath(path);
      return reading.ok ? [{ key: reading.key, stat: statOf(inode) }] : [];
    });
    this.#expire();
    return Promise.resolve({ files, refused: [] });
  }

  async read(key: DocumentKey): Promise<LocalReading> {
    await this.#process.step(0.02);
    const inode = this.#disk.files.get(pathOf(key));
    const now = this.#process.clock.monotonic();
    if (inode === undefined) {
      this.#unsettledSince.delete(key);
      if (this.presence() !== 'marked') return { state: 'absent', confirmInMs: QUIET_MS };
      const since = this.#absentSince.get(key) ?? now;
      this.#absentSince.set(key, since);
      return { state: 'absent', confirmInMs: Math.max(0, since + QUIET_MS - now) };
    }
    this.#absentSince.delete(key);
    const reading = readDocument(key, inode.text);
    if (reading.state === 'document') {
      this.#unsettledSince.delete(key);
      const isOld = this.#disk.now - inode.mtime > TIMES_SETTLE_MS;
      const written = { mtime: inode.mtime, ctime: inode.ctime };
      return { state: 'document', document: reading.document, text: inode.text, stat: isOld ? statOf(inode) : undefined, written };
    }
    const since = this.#unsettledSince.get(key) ?? now;
    this.#unsettledSince.set(key, since);
    if (now - since < SETTLE_MS)
      return { state: 'unsettled', reason: reading.reason, retryInMs: Math.min(50, Math.max(1, (now - since) / 2)) };
    return reading.state === 'blank' ? { ...reading, text: inode.text } : { state: 'refused', reason: reading.reason };
  }

  async write(key: DocumentKey, document: Document, expected: string | undefined): Promise<WorkspaceWrite> {
    const path = pathOf(key);
    await this.#process.step(0.2 + this.#random());
    const before = this.#disk.files.get(path);
    if (before?.text !== expected) return { status: 'changed' };
    if (before !== undefined && expected !== undefined) this.#disk.keep(path, before, expected);
    await this.#process.step(this.#random() * 0.2);
    this.#disk.put(path, document.text);
    return { status: 'written', stat: undefined };
  }

  async remove(key: DocumentKey, expected: string): Promise<WorkspaceWrite> {
    const path = pathOf(key);
    await this.#process.step(0.1);
    const inode = this.#disk.files.get(path);
    if (inode?.text !== expected) return { status: 'changed' };
    this.#disk.remove(path);
    this.#disk.keep(path, inode, expected);
    return { status: 'written', stat: undefined };
  }

  keepsReplaced(key: DocumentKey): boolean {
    return this.#disk.kept.some(({ path }) => path === pathOf(key));
  }

  late(key: DocumentKey): Promise<readonly LateText[]> {
    const found = this.#disk.kept.filter(({ path, inode, known }) => path === pathOf(key) && inode.text !== '' && inode.text !== known);
    return Promise.resolve(
      found.map((kept) => {
        const { text } = kept.inode;
        return {
          text,
          taken: () => {
            kept.known = text;
          },
        };
      }),
    );
  }

  watch(hint: (key: DocumentKey | undefined) => void): Promise<() => Promise<void>> {
    const stop = this.#disk.watch(this.#process, (path) => {
      const reading = readCredentialPath(path);
      if (reading.ok) hint(reading.key);
    });
    return Promise.resolve(() => {
      stop();
      return Promise.resolve();
    });
  }

  #expire(): void {
    const now = this.#process.clock.monotonic();
    const rest = this.#disk.kept.filter(
      ({ since, inode, known }) => now - since < (inode.text === known && inode.text !== '' ? KEPT_MS : ORPHANED_MS),
    );
    this.#disk.kept.splice(0, this.#disk.kept.length, ...rest);
  }
}

function pathOf(key: DocumentKey): string {
  return key.slice('auths/'.length);
}

function statOf({ id, text, mtime, ctime, version }: Inode): StatHint {
  return { size: text.length, ino: String(id), mtimeNs: String(mtime), ctimeNs: `${String(ctime)}-${String(version)}` };
}
