import { statSync } from 'node:fs';
import { FSWatcher, type ChokidarOptions } from 'chokidar';

/**
 * chokidar, for those who hear of files by the `raw` events of their directories. By itself it lists a directory at each event, with a stat of every file in it:
 * beside a thousand files that takes longer than all that is to be done about the event. Where the system cannot notify (`usePolling`) it works as always.
 * A directory that comes or goes later is not followed by itself: see `knows`.
 */
export class DirectoryEvents extends FSWatcher {
  #isReady = false;

  constructor(options: ChokidarOptions) {
    super(options);
    this.once('ready', () => (this.#isReady = true));
  }

  /** False for a directory that is not watched, and for one that was and is gone. */
  knows(path: string): boolean {
    return isDirectory(path) === path in this.getWatched();
  }

  override _readdirp(...how: Parameters<FSWatcher['_readdirp']>): ReturnType<FSWatcher['_readdirp']> {
    return this.#isReady && !this.options.usePolling ? undefined : super._readdirp(...how);
  }
}

/** False as well for what cannot be looked at. */
function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
