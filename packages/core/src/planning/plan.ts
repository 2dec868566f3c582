import { DEFAULT_POLICY } from '../custody/provider-policy.js';
import type { Digest } from '../documents/digest.js';
import { credentialFrom, type Document } from '../documents/document.js';
import { hasSubstance, refreshTokenOf } from '../documents/grant.js';
import type { Fingerprint } from '../documents/hasher.js';
import { exhaustive } from '../exhaustive.js';
import type { Revision } from '../ports/token-store.js';
import type { Base } from './base.js';
import { opensTheDoor } from './config-guard.js';
import { DEFAULT_ECHO_MS, findEcho, hadGrant, NO_ECHO, type Echo, type Recollection } from './echo.js';
import { isStale, newestOf, type Lineage } from './lineage.js';
import { mergeConfig } from './merge-config.js';
import { mergeCredential } from './merge-credential.js';

/** What the workspace shows now. */
export type Local =
  | { readonly state: 'absent' }
  /** A file that cannot be a credential or a config any more: empty, `{}`. */
  | { readonly state: 'blank'; readonly reason: string }
  /** `document` as it would stand in the store (through the lens), with its digest `absorbed`; `digest` of the file as it is. */
  | { readonly state: 'document'; readonly document: Document; readonly absorbed: Digest; readonly digest: Digest };

/** What the authority shows now. */
export type Remote =
  /** Neither document nor tombstone. `confirmed` when it was seen so twice, with the cluster's id present. */
  | { readonly state: 'absent'; readonly confirmed: boolean }
  | { readonly state: 'deleted'; readonly revision: Revision; readonly lineage: Lineage }
  | { readonly state: 'blank'; readonly revision: Revision; readonly lineage: Lineage; readonly reason: string }
  | {
      readonly state: 'document';
      readonly revision: Revision;
      readonly lineage: Lineage;
      readonly document: Document;
      readonly digest: Digest;
    };

/** Where both sides exist in the end, they hold `document`; who carries it out writes where that is not so yet. */
export type Action =
  | { readonly kind: 'nothing' }
  | {
      /** `repair`: the file is an echo, and is written again as the store has it. */
      readonly kind: 'adopt' | 'pull' | 'push' | 'merge' | 'repair';
      readonly document: Document;
      readonly because: string;
      readonly conflicts: readonly string[];
    }
  /** `isEcho`: it was deleted before, and came back from the memory of CLIProxyAPI. */
  | { readonly kind: 'delete-local'; readonly isEcho: boolean }
  | { readonly kind: 'delete-remote' | 'forget' }
  /** The document stays where and as it is, on both sides, until someone mends it. */
  | { readonly kind: 'refuse'; readonly side: 'workspace' | 'store'; readonly reason: string }
  /** Look again before concluding that the document vanished from the store. */
  | { readonly kind: 'recheck' }
  /** The store holds a grant that was replaced before; the newest one must be found elsewhere. */
  | { readonly kind: 'seek-grant'; readonly fingerprint: Fingerprint };

/** What the clock says about the past, as values. */
export interface Memory {
  readonly recent: readonly Recollection[];
  readonly echoMs: number;
  /** A refresh that we asked for is or was under way here: its outcome does not undo a deletion. */
  readonly isVisited?: boolean;
}

export const NO_MEMORY: Memory = { recent: [], echoMs: DEFAULT_ECHO_MS };

/**
 * Decides what to do with one document. Pure: no I/O, no clock, no randomness. The table of `docs/semantics.md` is this function.
 */
export function plan(local: Local, remote: Remote, lastBase: Base | undefined, memory: Memory = NO_MEMORY): Action {
  const base = lastBase === undefined ? undefined : beforeRetirement(lastBase, local);
  switch (local.state) {
    case 'absent':
      return planAbsent(remote, base);
    case 'blank':
      return planBlank(local.reason, remote);
    case 'document':
      return planPresent(local, remote, base, memory);
    default:
      return exhaustive(local);
  }
}

function planAbsent(remote: Remote, base: Base | undefined): Action {
  const deletedHere = base?.local !== undefined && base.retiring === undefined;
  switch (remote.state) {
    case 'absent':
    case 'deleted':
      return base === undefined ? { kind: 'nothing' } : { kind: 'forget' };
    case 'blank':
      return { kind: 'refuse', side: 'store', reason: remote.reason };
    case 'document': {
      const newest = newestOf(remote.lineage);
      if (newest !== undefined && isStale(remote.digest.fingerprint, remote.lineage)) return { kind: 'seek-grant', fingerprint: newest };
      if (!deletedHere || base.remote === undefined) return pullOf(remote, 'new in the store');
      if (remote.document.kind === 'config') return pullOf(remote, 'a deletion of config.yaml does not travel');
      if (!isSameAsBase(remote, base)) return pullOf(remote, 'edited in the store, which beats the deletion here');
      return { kind: 'delete-remote' };
    }
    default:
      return exhaustive(remote);
  }
}

function planBlank(reason: string, remote: Remote): Action {
  if (remote.state === 'document' && isWhole(remote.document)) return pullOf(remote, `the file here cannot be used: ${reason}`);
  return { kind: 'refuse', side: 'workspace', reason };
}

function planPresent(local: Extract<Local, { state: 'document' }>, remote: Remote, base: Base | undefined, memory: Memory): Action {
  const changedHere = local.digest.hash !== base?.local?.hash;
  const echo = echoIn(local, remote, base, memory);
  switch (remote.state) {
    case 'absent': {
      if (!isWhole(local.document)) return refuseGutted();
      const wasThere = base?.remote?.state === 'live';
      if (wasThere && !remote.confirmed) return { kind: 'recheck' };
      return push(local.document, wasThere ? 'it vanished from the store without a deletion' : 'new here');
    }
    case 'deleted': {
      if (!isWhole(local.document)) return refuseGutted();
      if (memory.isVisited === true) return { kind: 'delete-local', isEcho: false };
      if (base?.local !== undefined && local.document.kind === 'credential' && (!changedHere || echo.isOwnAddition)) {
        return { kind: 'delete-local', isEcho: false };
      }
      if (isLeftover(local, remote.lineage))
        return { kind: 'delete-local', isEcho: base?.local === undefined && isRemembered(local, memory) };
      const isOlder = isStale(local.digest.fingerprint, remote.lineage);
      if (isOlder && base?.local === undefined && !isRemembered(local, memory)) {
        return { kind: 'refuse', side: 'workspace', reason: 'it is an older copy of a credential that was deleted' };
      }
      if (isOlder || echo.whole) return { kind: 'delete-local', isEcho: base?.local === undefined };
      return push(
        withoutRetirement(local.document, base),
        local.document.kind === 'config' ? 'a deletion of config.yaml does not travel' : 'edited here, which beats the deletion',
      );
    }
    case 'blank':
      return isWhole(local.document) ? push(local.document, `the stored document cannot be used: ${remote.reason}`) : refuseGutted();
    case 'document':
      return planBoth(local, remote, base, echo);
    default:
      return exhaustive(remote);
  }
}

function planBoth(
  local: Extract<Local, { state: 'document' }>,
  remote: Extract<Remote, { state: 'document' }>,
  base: Base | undefined,
  echo: Echo,
): Action {
  const storeIsStale = isStale(remote.digest.fingerprint, remote.lineage);
  if (local.absorbed.hash === remote.digest.hash && !storeIsStale) {
    const settled = base?.local?.hash === local.digest.hash && isSameAsBase(remote, base) && base.remote?.revision === remote.revision;
    const recorded = remote.digest.fingerprint === undefined || newestOf(remote.lineage) === remote.digest.fingerprint;
    if (settled && recorded) return { kind: 'nothing' };
    return isWhole(remote.document)
      ? { kind: 'adopt', document: remote.document, because: 'equal on both sides', conflicts: [] }
      : refuseGutted();
  }
  const halves = { local: base?.local, remote: base?.remote?.state === 'live' ? base.remote.digest : undefined };
  const changedHere = local.digest.hash !== base?.local?.hash;
  const changedThere = !isSameAsBase(remote, base);
  const kind = changedHere && changedThere ? 'merge' : changedHere ? 'push' : 'pull';

  if (local.document.kind === 'config' && remote.document.kind === 'config') {
    const danger = opensTheDoor(local.document, remote.document);
    if (danger !== undefined && base?.local !== undefined) return { kind: 'refuse', side: 'workspace', reason: danger };
    const dangerThere = opensTheDoor(remote.document, local.document);
    if (dangerThere !== undefined && changedThere) return { kind: 'refuse', side: 'store', reason: dangerThere };
    const merged = mergeConfig(
      { document: local.document, digest: local.digest },
      { document: remote.document, digest: remote.digest },
      halves,
    );
    return { kind, document: merged.document, because: becauseOf(kind), conflicts: merged.conflicts };
  }
  if (echo.whole && !storeIsStale && isWhole(remote.document)) {
    return { kind: 'repair', document: remote.document, because: 'CLIProxyAPI saved its older copy', conflicts: [] };
  }
  if (local.document.kind === 'credential' && remote.document.kind === 'credential') {
    const merged = mergeCredential(
      { document: local.document, digest: local.digest },
      { document: remote.document, digest: remote.digest },
      halves,
      remote.lineage,
      echo,
    );
    if (merged.sought !== undefined) return { kind: 'seek-grant', fingerprint: merged.sought };
    if (!isWhole(merged.document)) return refuseGutted();
    const undone = echo.isRefresh ? [] : [...echo.fields];
    return { kind, document: merged.document, because: becauseOf(kind), conflicts: [...merged.conflicts, ...undone] };
  }
  return { kind: 'refuse', side: 'workspace', reason: 'it is of another kind than the stored document' };
}

/** A file that we disabled, or were about to, in order to delete it is no change: the note says that it is ours. */
function beforeRetirement(base: Base, local: Local): Base {
  const { retiring } = base;
  if (retiring === undefined || local.state !== 'document') return base;
  return [retiring.original, retiring.retired].includes(local.digest.hash) ? { ...base, local: local.digest } : base;
}

/** An edit that beats a deletion does not carry on the `disabled` of the retirement. */
function withoutRetirement(document: Document, base: Base | undefined): Document {
  if (base?.retiring === undefined || document.kind !== 'credential' || document.fields['disabled'] !== true) return document;
  const { disabledBefore } = base.retiring;
  const rest = Object.fromEntries(Object.entries(document.fields).filter(([name]) => name !== 'disabled'));
  return credentialFrom(disabledBefore === undefined ? rest : { ...rest, disabled: disabledBefore });
}

function echoIn(local: Extract<Local, { state: 'document' }>, remote: Remote, base: Base | undefined, { recent, echoMs }: Memory): Echo {
  if (local.document.kind !== 'credential') return NO_ECHO;
  const lineage = remote.state === 'absent' ? [] : remote.lineage;
  return findEcho({ document: local.document, digest: local.digest }, lineage, base, recent, echoMs);
}

/** True for a copy without its refresh token of a grant that was known when the credential was deleted: no login, and nothing to bring it back for. */
function isLeftover({ document, digest }: Extract<Local, { state: 'document' }>, lineage: Lineage): boolean {
  if (document.kind !== 'credential' || digest.fingerprint === undefined) return false;
  return (
    DEFAULT_POLICY.sharingOf(document.fields) !== 'reusable' &&
    refreshTokenOf(document.fields) === undefined &&
    lineage.includes(digest.fingerprint)
  );
}

/** True when this very grant stood here a moment ago. */
function isRemembered(local: Extract<Local, { state: 'document' }>, { recent, echoMs }: Memory): boolean {
  return recent.some((old) => old.ageMs <= echoMs && hadGrant(old, local.digest));
}

/** True when the store still shows what it last showed, whatever revision that has now. */
function isSameAsBase(remote: Extract<Remote, { state: 'document' }>, base: Base | undefined): boolean {
  return base?.remote?.state === 'live' && base.remote.digest.hash === remote.digest.hash;
}

function isWhole(document: Document): boolean {
  return document.kind === 'config' || hasSubstance(document.fields);
}

function refuseGutted(): Action {
  return { kind: 'refuse', side: 'workspace', reason: 'it holds no token and nothing else that could authenticate (a gutted credential)' };
}

function pullOf(remote: Extract<Remote, { state: 'document' }>, because: string): Action {
  if (!isWhole(remote.document))
    return { kind: 'refuse', side: 'store', reason: 'it holds no token and nothing else that could authenticate (a gutted credential)' };
  return { kind: 'pull', document: remote.document, because, conflicts: [] };
}

function push(document: Document, because: string): Action {
  return { kind: 'push', document, because, conflicts: [] };
}

function becauseOf(kind: 'pull' | 'push' | 'merge'): string {
  return { pull: 'changed in the store', push: 'changed here', merge: 'changed on both sides' }[kind];
}
