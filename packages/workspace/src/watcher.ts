import { watch as chokidarWatch, type FSWatcher } from 'chokidar';
import { statSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { CONFIG_KEY, messageOf, readCredentialPath, type Clock, type DocumentKey, type Log } from '@tokenmirror/core';
import { MARKER_NAME } from './marker.js';

export interface WatchedPlaces {
  readonly authDir: string;
  readonly configFile: string | undefined;
}

/** How often files are looked at when the system cannot notify, in ms. */
const POLLING_MS = 1000;
/** After it told of a change, chokidar does not tell of the next one of that file for 50 ms and a little. */
const SWALLOWED_MS = 100;
/** How often it is checked that the watched directory is still the one that is there, in ms. */
const IDENTITY_MS = 2000;

/**
 * File events as hints. The watcher goes blind without a word when its directory is replaced or the system runs out of watches;
 * both are noticed here, and answered with a new watcher or with polling.
 */
export class Watcher {
  readonly #places: WatchedPlaces;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #hint: (key: DocumentKey | undefined) => void;
  #watcher: FSWatcher | undefined;
  #polling = false;
  #identity: string | undefined;
  #stopped = false;
  #restarting: Promise<void> | undefined;
  #restartAgain = false;
  /** A watcher that is closed before it is ready never says so. */
  #giveUpWaiting: () => void = () => undefined;

  constructor(places: WatchedPlaces, clock: Clock, log: Log, hint: (key: DocumentKey | undefined) => void) {
    this.#places = places;
    this.#clock = clock;
    this.#log = log;
    this.#hint = hint;
  }

  async start(): Promise<void> {
    await this.#open();
    await this.#restarting;
    this.#checkIdentityLater();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#restarting;
    await this.#watcher?.close();
  }

  async #open(): Promise<void> {
    const { authDir, configFile } = this.#places;
    this.#identity = identityOf(authDir, configFile);
    const watcher = chokidarWatch(configFile === undefined ? [authDir] : [authDir, configFile], {
      ignoreInitial: true,
      usePolling: this.#polling,
      interval: POLLING_MS,
      ignored: (path, stats) => stats?.isFile() === true && this.#keyOf(path) === undefined && !path.endsWith(MARKER_NAME),
    });
    this.#watcher = watcher;
    const toldAt = new Map<DocumentKey, number>();
    watcher.on('all', (_, path) => {
      const key = this.#keyOf(path);
      if (key !== undefined) {
        toldAt.set(key, performance.now());
        this.#hint(key);
      } else if (path === authDir || path.endsWith(MARKER_NAME)) this.#hint(undefined);
    });
    watcher.on('raw', (_, name: string | null, details) => {
      const { watchedPath = '' } = details as { readonly watchedPath?: string };
      // Some systems tell no name.
      const key = this.#keyOf(watchedPath) ?? this.#keyOf(join(watchedPath, name ?? ''));
      if (key !== undefined && performance.now() - (toldAt.get(key) ?? -Infinity) < SWALLOWED_MS) this.#hint(key);
    });
    watcher.on('error', (error) => {
      this.#fallBack(error);
    });
    await new Promise<void>((resolve) => {
      this.#giveUpWaiting = resolve;
      watcher.once('ready', resolve);
    });
  }

  #keyOf(path: string): DocumentKey | undefined {
    if (path === this.#places.configFile) return CONFIG_KEY;
    const reading = readCredentialPath(relative(this.#places.authDir, path).split(sep).join('/'));
    return reading.ok ? reading.key : undefined;
  }

  #fallBack(error: unknown): void {
    if (this.#polling || this.#stopped) return;
    this.#polling = true;
    this.#log.warn('watch.polling', {
      reason: messageOf(error),
      remedy: 'Files are now looked at every second. On Linux, raise fs.inotify.max_user_watches.',
    });
    this.#restart();
  }

  #checkIdentityLater(): void {
    this.#clock.after(IDENTITY_MS, () => {
      if (this.#stopped) return;
      if (identityOf(this.#places.authDir, this.#places.configFile) !== this.#identity) this.#restart();
      this.#checkIdentityLater();
    });
  }

  #restart(): void {
    if (this.#restarting !== undefined) {
      this.#restartAgain = true;
      return;
    }
    this.#restarting = (async () => {
      await this.#watcher?.close();
      this.#giveUpWaiting();
      if (this.#stopped) return;
      await this.#open();
      this.#hint(undefined);
    })().finally(() => {
      this.#restarting = undefined;
      if (!this.#restartAgain) return;
      this.#restartAgain = false;
      this.#restart();
    });
  }
}

/** Tells the watched directories apart from others at the same path. */
function identityOf(authDir: string, configFile: string | undefined): string {
  return [authDir, ...(configFile === undefined ? [] : [dirname(configFile)])]
    .map((path) => {
      try {
        const { dev, ino } = statSync(path);
        return `${String(dev)}:${String(ino)}`;
      } catch {
        return 'none';
      }
    })
    .join(' ');
}
