import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, watch, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Clock } from '@tokenmirror/core';
import type { Chance, Disk } from './ports.js';

export const systemTime: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms);
    return () => {
      clearTimeout(timer);
    };
  },
};

/** Chance as it was measured; a fixed delay forces the echoes that are otherwise rare. */
export function realChance(reloadDelayMs?: number): Chance {
  return { reloadDelayMs: () => reloadDelayMs ?? 3 + Math.random() * 5, id: () => randomUUID() };
}

/** A real auth directory and a real config file, watched by the system. */
export class RealDisk implements Disk {
  readonly #authDir: string;
  readonly #configFile: string;

  constructor(authDir: string, configFile: string) {
    this.#authDir = authDir;
    this.#configFile = configFile;
  }

  list(): readonly string[] {
    return readdirSync(this.#authDir, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.json'));
  }

  read(path: string): string | undefined {
    return readOrNothing(join(this.#authDir, path));
  }

  writeInPlace(path: string, text: string): void {
    const file = join(this.#authDir, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text, { mode: 0o600 });
  }

  remove(path: string): void {
    rmSync(join(this.#authDir, path), { force: true });
  }

  readConfig(): string | undefined {
    return readOrNothing(this.#configFile);
  }

  /** A file without the right to be written is not, for root neither: tests may run as root, and the program does not. */
  writeConfigInPlace(text: string): void {
    if ((statSync(this.#configFile).mode & 0o200) === 0) throw new Error('permission denied');
    writeFileSync(this.#configFile, text);
  }

  watchAuths(changed: (path: string) => void, deep: boolean): () => void {
    const watcher = watch(this.#authDir, { recursive: deep }, (_, name) => {
      if (name?.endsWith('.json') === true) changed(name);
    });
    return () => {
      watcher.close();
    };
  }

  watchConfig(changed: () => void, byPath: boolean): () => void {
    const watched = statSync(this.#configFile).ino;
    const isStillThere = (): boolean => existsSync(this.#configFile) && statSync(this.#configFile).ino === watched;
    const watcher = byPath
      ? watch(dirname(this.#configFile), (_, name) => {
          if (name === basename(this.#configFile)) changed();
        })
      : watch(this.#configFile, () => {
          if (isStillThere()) changed();
        });
    return () => {
      watcher.close();
    };
  }
}

function readOrNothing(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
