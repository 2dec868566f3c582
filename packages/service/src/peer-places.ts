import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { TokenmirrorError } from '@tokenmirror/core';
import type { Locations } from '@tokenmirror/workspace';
import type { Settings } from './options/settings.js';
import { real } from './overlaps.js';

/** The peer directories, whether they are there or not. What is remembered of them lies in the state directory of the replica. */
export function peerPlaces(settings: Settings, main: Locations): readonly Locations[] {
  return (settings.peers ?? []).map((path) => {
    const authDir = real(resolve(path));
    const name = createHash('sha256').update(authDir).digest('hex').slice(0, 12);
    return { authDir, configFile: undefined, stateDir: join(main.stateDir, 'peers', name), takes: filterOf(settings['peer-filter']) };
  });
}

/** @throws TokenmirrorError WORKSPACE_MISSING */
export function refuseMissingPeers(peers: readonly Locations[]): void {
  for (const { authDir } of peers) {
    if (statSync(authDir, { throwIfNoEntry: false })?.isDirectory() === true) continue;
    throw new TokenmirrorError('WORKSPACE_MISSING', `the peer directory ${authDir} does not exist`, 'Check the path, or make it first.');
  }
}

/** What a peer directory may be called by. */
function filterOf(patterns: readonly string[]): (path: string) => boolean {
  const expressions = patterns.map((pattern) => new RegExp(`^${pattern.split('*').map(escaped).join('.*')}(?:\\.json)?$`));
  return (path) => expressions.some((expression) => expression.test(path));
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}
