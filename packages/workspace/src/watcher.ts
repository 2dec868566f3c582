import { existsSync, statSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { CONFIG_KEY, messageOf, readCredentialPath, type Clock, type DocumentKey, type Log } from '@tokenmirror/core';
import { DirectoryEvents } from './directory-events.js';
import { MARKER_NAME } from './marker.js';

export interface WatchedPlaces {
  readonly authDir: string;
  readonly configFile: string | undefined;
}

/** How often files are looked at when the system cannot notify, in ms. */
const POLLING_MS = 1000;
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
  #watcher: DirectoryEvents | undefined;
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
    // Not a file that is missing: chokidar then says too soon that it is ready.
    const configPlace = [configFile, configFile && dirname(configFile)].find((path) => path !== undefined && existsSync(path));
    const watched = configPlace === undefined ? [authDir] : [authDir, configPlace];
    const watcher: DirectoryEvents = new DirectoryEvents({
      ignoreInitial: true,
      usePolling: this.#polling,
      interval: POLLING_MS,
      ignored: (path, stats) => {
        if (stats?.isFile() === true) return watcher.options.usePolling ? !this.#isOurs(path) : path !== configFile;
        return stats?.isDirectory() === true && !this.#isInside(path) && !watched.includes(path);
      },
    });
    this.#watcher = watcher;
    watcher.on('all', (_, path) => {
      this.#changed(path);
    });
    watcher.on('raw', (_, name: string | null, details) => {
      const { watchedPath = '' } = details as { readonly watchedPath?: string };
      if (this.#isOurs(watchedPath)) this.#changed(watchedPath);
      // Some systems tell no name.
      else if (name === null) this.#hint(undefined);
      else this.#changed(join(watchedPath, name));
    });
    watcher.on('error', (error) => {
      this.#fallBack(error);
    });
    await new Promise<void>((resolve) => {
      this.#giveUpWaiting = resolve;
      watcher.once('ready', resolve);
      watcher.add(watched);
    });
  }

  #isOurs(path: string): boolean {
    return this.#isMarker(path) || this.#keyOf(path) !== undefined;
  }

  #isMarker(path: string): boolean {
    return path === join(this.#places.authDir, MARKER_NAME);
  }

  /** Of something in the auth directory that is not hidden. */
  #isInside(path: string): boolean {
    const inner = relative(this.#places.authDir, path).split(sep);
    return inner.every((name) => name !== '' && !name.startsWith('.'));
  }

  #changed(path: string): void {
    const { authDir } = this.#places;
    const key = this.#keyOf(path);
    if (key !== undefined) this.#hint(key);
    else if (path === authDir || this.#isMarker(path)) this.#hint(undefined);
    else if (this.#isInside(path) && this.#watcher?.knows(path) === false) this.#restart();
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
