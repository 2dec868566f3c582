import { ECHOES } from './echoes.js';
import { FILES } from './files.js';
import { MANAGEMENT } from './management.js';
import { REFRESHES } from './refreshes.js';
import { USAGE } from './usage.js';
import type { Flavour } from '@tokenmirror/testkit';
import type { Clause } from './world.js';

/** Everything that was measured of CLIProxyAPI and that Tokenmirror builds upon. */
export const CONTRACT: readonly Clause[] = [...FILES, ...REFRESHES, ...ECHOES, ...MANAGEMENT, ...USAGE];

export function holdsFor(flavour: Flavour): (clause: Clause) => boolean {
  return ({ flavours = ['6.9', '7.2'] }) => flavours.includes(flavour);
}
