import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { TokenmirrorError } from '@tokenmirror/core';

export interface GitAddress {
  /** `https://host/owner/repository.git`, or the path of a repository on this machine, bare or not. */
  readonly url: string;
  readonly username?: string | undefined;
  readonly token?: string | undefined;
  /** The remote's default branch where absent. */
  readonly branch?: string | undefined;
}

/** Where a repository is: behind HTTP, or in a directory. */
export type GitPlace =
  | { readonly kind: 'http'; readonly url: string; readonly authorization: string | undefined }
  | { readonly kind: 'local'; readonly path: string };

/**
 * Understands what people write. User and password in a URL are taken out of it.
 * @throws TokenmirrorError STORE_INVALID, without the URL, which may hold a password
 */
export function placeOf({ url, username, token }: GitAddress): GitPlace {
  const text = url.replace(/^git\+/, '');
  if (/^https?:\/\//i.test(text)) {
    if (!URL.canParse(text)) throw invalid('the address of the git repository is not a valid URL');
    const parsed = new URL(text);
    const user = username ?? decodeURIComponent(parsed.username);
    const secret = token ?? decodeURIComponent(parsed.password);
    parsed.username = '';
    parsed.password = '';
    const hasKeys = user !== '' || secret !== '';
    // GitHub and others take any name with a token, but want one.
    const authorization = hasKeys ? `Basic ${Buffer.from(`${user === '' ? 'git' : user}:${secret}`).toString('base64')}` : undefined;
    return { kind: 'http', url: parsed.href, authorization };
  }
  if (text.startsWith('file:')) {
    try {
      return { kind: 'local', path: fileURLToPath(text) };
    } catch {
      throw invalid('the address of the git repository is not a URL of a local directory');
    }
  }
  if (text.startsWith('~/')) return { kind: 'local', path: join(homedir(), text.slice(2)) };
  if (isAbsolute(text) || text.startsWith('.')) return { kind: 'local', path: resolve(text) };
  if (/^(?:ssh:\/\/|git:\/\/|[^/]+@[^/]+:)/i.test(text)) throw invalid('git over ssh is not supported');
  throw invalid('the address of the git repository is not understood');
}

/** The place as it may be shown. */
export function shownPlace(place: GitPlace, branch: string | undefined): string {
  const where = place.kind === 'http' ? place.url : `file://${place.path}`;
  return `git+${where}${branch === undefined ? '' : ` (branch ${branch})`}`;
}

function invalid(message: string): TokenmirrorError {
  return new TokenmirrorError(
    'STORE_INVALID',
    message,
    'Write https://host/owner/repository.git, with GITSTORE_GIT_USERNAME and GITSTORE_GIT_TOKEN beside it, or the path of a repository on this machine.',
  );
}
