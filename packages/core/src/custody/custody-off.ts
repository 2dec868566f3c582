import { TokenmirrorError } from '../errors.js';
import { readReplicas } from '../engine/registration.js';
import type { Lens } from '../planning/lens.js';
import type { TokenStore } from '../ports/token-store.js';
import { leaveAlone, readMode, type ClusterMode } from './cluster-mode.js';
import { withoutCustody, type Custody } from './custody.js';

/** For a replica whose proxy knows every token, and claims none: never in a cluster that goes by claims. */
export function custodyOff(lens: Lens, store: TokenStore, replica: string): Custody {
  return withoutCustody(lens, async () => {
    const mode = await readMode(store);
    if (mode === undefined) return;
    if (mode.mode === 'alone' && mode.replica === replica && mode.handover === undefined) await leaveAlone(store, replica);
    else throw refused(mode);
  });
}

/** Makes sure that no replica knows tokens without claiming them. @throws TokenmirrorError CUSTODY_REFUSED */
export async function refuseUnclaimed(store: TokenStore, replica: string): Promise<void> {
  const others = (await readReplicas(store)).filter(({ id, custody }) => id !== replica && custody === 'off');
  if (others.length === 0) return;
  const names = others.map(({ id, host }) => `${id} (${host})`).join(', ');
  throw new TokenmirrorError(
    'CUSTODY_REFUSED',
    `this cluster has replicas that share whole credentials without custody: ${names}`,
    'Start them with custody: auto, or run `tokenmirror replicas dismiss` for those that are gone. To share without custody here too, start with custody: off.',
  );
}

function refused(mode: ClusterMode): TokenmirrorError {
  const who =
    mode.mode === 'alone'
      ? `the replica ${mode.replica} holds every refresh token of this cluster`
      : 'the replicas of this cluster share their credentials by custody';
  return new TokenmirrorError(
    'CUSTODY_REFUSED',
    `${who}, which custody: off would break`,
    'Start with custody: auto. To end custody for good, run `tokenmirror eject` first.',
  );
}
