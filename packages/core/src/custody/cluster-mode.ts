import { recordKey } from '../documents/document-key.js';
import { TokenmirrorError } from '../errors.js';
import { checkFormat, CURRENT_FORMAT } from '../format-version.js';
import type { Revision, TokenStore } from '../ports/token-store.js';

/**
 * Who may know the refresh tokens of a cluster.
 *
 * - `alone`: one replica, all of them. Its files are whole and CLIProxyAPI refreshes by itself.
 * - `shared`: whoever holds the claim on a token.
 *
 * As long as a replica hands over, having been alone, it and nobody else holds every token that has no claim of its own.
 */
export type ClusterMode =
  | {
      readonly mode: 'alone';
      readonly replica: string;
      readonly handover?: string;
      /** By a person, who wants it to stay so whoever joins. */
      readonly isEjected?: true;
    }
  | { readonly mode: 'shared'; readonly handover?: string };

export type CustodySetting = 'auto' | 'on' | 'off';

/** Stands in every store with which replicas share credentials. */
export const MODE_KEY = recordKey('custody', 'mode');

interface FoundMode {
  readonly mode: ClusterMode | undefined;
  readonly revision: Revision | 'absent';
}

export async function readMode(store: TokenStore): Promise<ClusterMode | undefined> {
  return (await find(store)).mode;
}

/**
 * Joins a cluster: the first replica is alone, the second makes it shared, for good.
 * @throws TokenmirrorError CUSTODY_REFUSED when the setting does not fit the cluster
 */
export async function joinCluster(
  store: TokenStore,
  replica: string,
  { setting, mayShare }: { readonly setting: Exclude<CustodySetting, 'off'>; readonly mayShare: boolean },
): Promise<ClusterMode> {
  const joined = (mode: ClusterMode | undefined): ClusterMode => {
    if (mode === undefined) return setting === 'on' ? { mode: 'shared' } : { mode: 'alone', replica };
    if (mode.mode === 'alone' && mode.isEjected !== true && (setting === 'on' || mode.replica !== replica))
      return { mode: 'shared', handover: mode.replica };
    return mode;
  };
  return change(store, replica, (mode) => {
    const wanted = joined(mode);
    if (wanted.mode === 'shared' && !mayShare) throw notShared(store);
    return wanted;
  });
}

/** Ends a handover, when no proxy of that replica knows a token that it has not claimed. */
export async function endHandover(store: TokenStore, author: string, from: string): Promise<ClusterMode> {
  return change(store, author, (mode) => (mode?.handover === from ? withoutHandover(mode) : (mode ?? { mode: 'shared' })));
}

/** Makes one replica the only one that may know tokens. Claims of others stay with them until they let go. */
export async function makeAlone(store: TokenStore, author: string, replica: string): Promise<ClusterMode> {
  return change(store, author, (mode) => {
    const holder = mode?.mode === 'alone' && mode.handover === undefined ? mode.replica : mode?.handover;
    return { mode: 'alone', replica, isEjected: true, ...(holder === undefined || holder === replica ? {} : { handover: holder }) };
  });
}

/** Takes the place of a replica that was alone, or was handing over, and is gone for good. */
export async function dismissHolder(store: TokenStore, author: string, gone: string): Promise<ClusterMode> {
  return change(store, author, (mode) => {
    if (mode === undefined || (mode.mode === 'alone' && mode.replica === gone)) return { mode: 'shared' };
    return mode.handover === gone ? withoutHandover(mode) : mode;
  });
}

/** Lets every replica refresh again after an eject. */
export async function shareAgain(store: TokenStore, author: string): Promise<ClusterMode> {
  return change(store, author, (mode) => {
    if (mode === undefined) return { mode: 'shared' };
    return mode.mode === 'alone' ? { mode: 'shared', handover: mode.handover ?? mode.replica } : mode;
  });
}

function withoutHandover(mode: ClusterMode): ClusterMode {
  if (mode.mode === 'shared') return { mode: 'shared' };
  const { replica, isEjected } = mode;
  return { mode: 'alone', replica, ...(isEjected === undefined ? {} : { isEjected }) };
}

/** Ends the time in which one replica held every token, with nobody to hold them after it. */
export async function leaveAlone(store: TokenStore, replica: string): Promise<void> {
  for (;;) {
    const { mode, revision } = await find(store);
    if (revision === 'absent' || mode?.mode !== 'alone' || mode.replica !== replica) return;
    const [outcome] = await store.write([{ key: MODE_KEY, expected: revision, content: null, lineage: [] }], replica);
    if (outcome?.status === 'written') return;
  }
}

function notShared({ description }: TokenStore): TokenmirrorError {
  return new TokenmirrorError(
    'CUSTODY_REFUSED',
    `two replicas would share credentials through ${description}, and nothing says that both see the same directory`,
    'If it is one disk for all of them (not a synced folder), start each with --filesystem-shared; else use Postgres, S3 or git, or custody: off.',
  );
}

async function change(store: TokenStore, author: string, to: (mode: ClusterMode | undefined) => ClusterMode): Promise<ClusterMode> {
  for (;;) {
    const { mode, revision } = await find(store);
    const wanted = to(mode);
    if (mode !== undefined && isSameMode(mode, wanted)) return mode;
    const content = JSON.stringify({ ...CURRENT_FORMAT, ...wanted });
    const [outcome] = await store.write([{ key: MODE_KEY, expected: revision, content, lineage: [] }], author);
    if (outcome?.status === 'written') return wanted;
  }
}

async function find(store: TokenStore): Promise<FoundMode> {
  const entry = (await store.read([MODE_KEY])).get(MODE_KEY);
  if (entry === undefined) return { mode: undefined, revision: 'absent' };
  return { mode: entry.state === 'live' ? parseMode(entry.content) : undefined, revision: entry.revision };
}

export function isSameMode(one: ClusterMode | undefined, other: ClusterMode | undefined): boolean {
  return JSON.stringify(shape(one)) === JSON.stringify(shape(other));
}

function shape(mode: ClusterMode | undefined): readonly (string | boolean | undefined)[] {
  return mode === undefined
    ? []
    : mode.mode === 'alone'
      ? [mode.mode, mode.replica, mode.handover, mode.isEjected]
      : [mode.mode, mode.handover];
}

/** @throws TokenmirrorError FORMAT_NEWER, FORMAT_DAMAGED */
export function parseMode(text: string): ClusterMode {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    found = undefined;
  }
  checkFormat(found, `the record ${MODE_KEY} in the store`);
  const { mode, replica, handover, isEjected } = found as { mode?: unknown; replica?: unknown; handover?: unknown; isEjected?: unknown };
  const holder = typeof handover === 'string' ? { handover } : {};
  if (mode === 'alone' && typeof replica === 'string') return { mode, replica, ...holder, ...(isEjected === true ? { isEjected } : {}) };
  if (mode === 'shared') return { mode, ...holder };
  throw new TokenmirrorError(
    'FORMAT_DAMAGED',
    `the record ${MODE_KEY} in the store cannot be read`,
    'Restore it from a copy of the store.',
  );
}
