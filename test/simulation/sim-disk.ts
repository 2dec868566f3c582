import type { Disk } from '@tokenmirror/testkit';
import type { SimProcess } from './virtual-time.js';
import { type VirtualTime } from './virtual-time.js';

/** One file: replaced by a rename, changed by a write in place. Times are of the host's clock, in ms. */
export interface Inode {
  readonly id: number;
  text: string;
  mtime: number;
  ctime: number;
  version: number;
}

/** A file that was replaced, under its hidden name. */
export interface KeptInode {
  readonly path: string;
  readonly inode: Inode;
  known: string;
  readonly since: number;
}

/** The disk of one host: outlives its processes. */
export class SimDisk {
  readonly files = new Map<string, Inode>();
  readonly kept: KeptInode[] = [];
  marker: string | undefined;
  readonly #time: VirtualTime;
  readonly #random: () => number;
  readonly #epoch: () => number;
  readonly #watchers = new Set<{ readonly process: SimProcess; readonly changed: (path: string) => void }>();
  #ids = 0;

  constructor(time: VirtualTime, random: () => number, epoch: () => number) {
    this.#time = time;
    this.#random = random;
    this.#epoch = epoch;
  }

  get now(): number {
    return this.#epoch() + this.#time.now;
  }

  read(path: string): string | undefined {
    return this.files.get(path)?.text;
  }

  /** A new file takes the name, as by a rename. */
  put(path: string, text: string): Inode {
    const inode = { id: (this.#ids += 1), text, mtime: this.now, ctime: this.now, version: 1 };
    this.files.set(path, inode);
    this.#notify(path);
    return inode;
  }

  remove(path: string): void {
    if (this.files.delete(path)) this.#notify(path);
  }

  keep(path: string, inode: Inode, known: string): void {
    this.kept.push({ path, inode, known, since: this.#time.now });
  }

  /** Truncates, and writes a moment later: whoever reads between the two finds nothing. */
  writeInPlace(path: string, text: string, process: SimProcess): void {
    const inode = this.files.get(path) ?? this.put(path, '');
    this.#change(path, inode, '');
    this.#time.after(
      0.05 + this.#random() * 0.4,
      () => {
        this.#change(path, inode, text);
      },
      process,
    );
  }

  watch(process: SimProcess, changed: (path: string) => void): () => void {
    const watcher = { process, changed };
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  #change(path: string, inode: Inode, text: string): void {
    inode.text = text;
    inode.mtime = inode.ctime = this.now;
    inode.version += 1;
    if (this.files.get(path) === inode) this.#notify(path);
  }

  #notify(path: string): void {
    for (const { process, changed } of this.#watchers) {
      if (process.isDead) continue;
      this.#time.after(
        0.1 + this.#random() * 2,
        () => {
          changed(path);
        },
        process,
      );
    }
  }
}

const CONFIG = 'port: 8317\napi-keys: ["sk-client"]\n';

/** The disk as the emulated CLIProxyAPI sees it. */
export function diskOf(disk: SimDisk, process: SimProcess): Disk {
  return {
    list: () => [...disk.files.keys()],
    read: (path) => disk.read(path),
    writeInPlace: (path, text) => {
      disk.writeInPlace(path, text, process);
    },
    remove: (path) => {
      disk.remove(path);
    },
    readConfig: () => CONFIG,
    writeConfigInPlace: () => undefined,
    watchAuths: (changed) => disk.watch(process, changed),
    watchConfig: () => () => undefined,
  };
}
