import { TokenmirrorError, type TokenStore } from '@tokenmirror/core';
import type { Settings } from '../options/settings.js';
import type { StoreProvider, StoreRole } from './store-provider.js';

export class GitProvider implements StoreProvider {
  readonly name = 'git';
  readonly priority = 20;
  readonly schemes = ['git+https:', 'git+http:', 'git+file:'];

  isConfigured(settings: Settings): boolean {
    return settings['git-url'] !== undefined;
  }

  async create(settings: Settings, _: StoreRole, url = settings['git-url']): Promise<TokenStore> {
    if (url === undefined)
      throw new TokenmirrorError('STORE_INVALID', 'git is named as the store, but no repository', 'Set GITSTORE_GIT_URL.');
    const { GitStore } = await import('@tokenmirror/store-git');
    const isConfigured = hostOf(url) === hostOf(settings['git-url']);
    return new GitStore({
      url,
      username: isConfigured ? settings['git-username'] : undefined,
      token: isConfigured ? settings['git-token'] : undefined,
      branch: settings['git-branch'],
      author: authorIn(settings['git-author']),
      cloneDirectory: settings['git-clones'],
      historyLength: settings['history-length'],
      timeoutMs: settings['store-timeout'],
    });
  }
}

/** The token goes to the server that it was configured for, and to no other. */
function hostOf(url: string | undefined): string | undefined {
  const text = url?.replace(/^git\+/, '');
  return text !== undefined && URL.canParse(text) ? new URL(text).host : undefined;
}

function authorIn(text: string): { readonly name: string; readonly email: string } {
  const [, name, email] = /^\s*([^<>]+?)\s*<([^<>\s]+)>\s*$/.exec(text) ?? [];
  if (name === undefined || email === undefined)
    throw new TokenmirrorError('OPTION_INVALID', 'git-author is not an author as git knows it', 'Write it like: Name <name@example.com>');
  return { name, email };
}
