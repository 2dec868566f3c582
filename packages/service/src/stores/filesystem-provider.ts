import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TokenmirrorError, type TokenStore } from '@tokenmirror/core';
import type { Settings } from '../options/settings.js';
import type { StoreProvider, StoreRole } from './store-provider.js';

/** The embedded default: it is configured always, and comes last. */
export class FilesystemProvider implements StoreProvider {
  readonly name = 'filesystem';
  readonly priority = 10;
  readonly schemes = ['file:'];

  isConfigured(): boolean {
    return true;
  }

  async create(settings: Settings, _: StoreRole, url?: string): Promise<TokenStore> {
    const { FilesystemStore } = await import('@tokenmirror/store-filesystem');
    const directory = url === undefined ? (settings['filesystem-path'] ?? join(homedir(), '.tokenmirror', 'store')) : pathOf(url);
    const isDefault = url === undefined && settings['filesystem-path'] === undefined;
    return new FilesystemStore({ directory: resolve(directory), makesParents: isDefault, historyLength: settings['history-length'] });
  }
}

function pathOf(url: string): string {
  try {
    return fileURLToPath(url);
  } catch (cause) {
    throw new TokenmirrorError(
      'STORE_INVALID',
      `${url} is not a URL of a local directory`,
      'Write it with three slashes and an absolute path: file:///var/lib/tokenmirror',
      { cause },
    );
  }
}
