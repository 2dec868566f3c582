import { existsSync, realpathSync } from 'node:fs';
import { dirname, join, sep } from 'node:path';
import { TokenmirrorError, type TokenStore } from '@tokenmirror/core';
import type { Locations } from '@tokenmirror/workspace';

/**
 * A place inside another one would mirror itself. The first of the workspaces is the one of the replica, the others are its peers.
 * @throws TokenmirrorError STORE_INVALID
 */
export function refuseOverlaps(stores: readonly TokenStore[], workspaces: readonly Locations[]): void {
  const directories = [
    ...stores.flatMap(({ description }) => {
      const path = /^(?:git\+)?file:\/\/(.*?)(?: \(branch [^)]*\))?$/.exec(description)?.[1];
      return path === undefined ? [] : [{ shown: `the store ${description}`, path }];
    }),
    ...workspaces.map(({ authDir }, n) => ({ shown: `the ${n === 0 ? 'auth' : 'peer'} directory ${authDir}`, path: authDir })),
  ];
  for (const [n, one] of directories.entries()) {
    const other = directories.slice(n + 1).find(({ path }) => lieInEachOther(one.path, path));
    if (other !== undefined)
      throw new TokenmirrorError(
        'STORE_INVALID',
        `${one.shown} and ${other.shown} lie in each other`,
        'Name a directory of its own for each.',
      );
  }
  const buckets = stores.flatMap(({ description }) => (description.startsWith('s3://') ? [description.split(' (')] : []));
  for (const [one = '', host] of buckets) {
    const other = buckets.find(([url = '', where]) => where === host && url.startsWith(`${one}auths/`));
    if (other !== undefined)
      throw new TokenmirrorError('STORE_INVALID', `${other[0] ?? ''} lies among the credentials of ${one}`, 'Name another prefix.');
  }
}

function lieInEachOther(one: string, other: string): boolean {
  const [a, b] = [real(one), real(other)];
  return a === b || a.startsWith(b + sep) || b.startsWith(a + sep);
}

/** The path without symbolic links, as far as it exists. */
export function real(path: string): string {
  return existsSync(path) ? realpathSync(path) : join(real(dirname(path)), path.slice(dirname(path).length + 1));
}
