import { recordKey } from '../documents/document-key.js';
import { TokenmirrorError } from '../errors.js';
import { checkFormat, CURRENT_FORMAT } from '../format-version.js';
import type { TokenStore } from '../ports/token-store.js';

export interface MirrorClaim {
  readonly cluster: string;
  readonly author: string;
  /** True where a mirror of another cluster may be taken over: the authority is empty, or the operator says so. */
  readonly isFree: () => Promise<boolean>;
}

const TRIES = 10;
/** Stands in a mirror, and names the cluster that it mirrors. */
const ORIGIN = recordKey('mirrors', 'origin');

/**
 * Makes a store the mirror of one cluster. Two clusters in one place would mix their credentials, and a store that is the authority of others would be overwritten.
 * @throws TokenmirrorError CLUSTER_FOREIGN
 */
export async function claimMirror(store: TokenStore, { cluster, author, isFree }: MirrorClaim): Promise<void> {
  for (let attempt = 1; attempt <= TRIES; attempt += 1) {
    const entry = (await store.read([ORIGIN])).get(ORIGIN);
    const owner = entry?.state === 'live' ? ownerIn(entry.content) : undefined;
    if (owner === cluster) return;
    const isTaken = owner !== undefined || (await isAuthority(store));
    if (isTaken && !(await isFree())) {
      throw new TokenmirrorError(
        'CLUSTER_FOREIGN',
        `the mirror ${store.description} belongs to another cluster`,
        'Name another place, or another prefix. To make it a mirror of this one, merging what both have, start once with --adopt.',
      );
    }
    const content = JSON.stringify({ ...CURRENT_FORMAT, cluster });
    const [outcome] = await store.write([{ key: ORIGIN, expected: entry?.revision ?? 'absent', content, lineage: [] }], author);
    if (outcome?.status === 'written') return;
  }
  throw new TokenmirrorError(
    'STORE_UNSUITABLE',
    `the mirror ${store.description} did not give back what was written`,
    'Look at who else writes there; it is tried again by itself.',
  );
}

/** True for a store with which replicas work directly. */
async function isAuthority(store: TokenStore): Promise<boolean> {
  return (await store.list()).entries.some(({ name, state }) => state === 'live' && name.startsWith('replicas/'));
}

function ownerIn(content: string): string | undefined {
  try {
    const record = JSON.parse(content) as { readonly cluster?: unknown };
    checkFormat(record, 'the record of a mirror');
    return typeof record.cluster === 'string' ? record.cluster : undefined;
  } catch (error) {
    if (error instanceof TokenmirrorError) throw error;
    return undefined;
  }
}
