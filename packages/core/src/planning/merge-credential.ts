import type { Digest } from '../documents/digest.js';
import { credentialFrom, type CredentialDocument } from '../documents/document.js';
import { grantOf, hasSubstance, isGrantField, isOtherAccount, issuedOf, refreshTokenOf, withAccountOf } from '../documents/grant.js';
import type { JsonObject } from '../documents/strict-json.js';
import type { Fingerprint } from '../documents/hasher.js';
import { NO_ECHO, type Echo } from './echo.js';
import { isStale, newestOf, type Lineage } from './lineage.js';

export interface CredentialSide {
  readonly document: CredentialDocument;
  readonly digest: Digest;
}

export interface CredentialMerge {
  readonly document: CredentialDocument;
  /** Names of the fields that both sides had changed to different values; `grant` for a fork. Never values. */
  readonly conflicts: readonly string[];
  /** Set when the store's grant is one that was replaced before, and this side does not hold the newest as a whole: that one. */
  readonly sought: Fingerprint | undefined;
}

type Changed = (name: string) => boolean;

/**
 * Three-way merge of a credential: settings per field, the grant as a unit. The base is what each side last showed; without one, nothing counts
 * as removed and the authority wins where values differ.
 */
export function mergeCredential(
  local: CredentialSide,
  remote: CredentialSide,
  base: { readonly local: Digest | undefined; readonly remote: Digest | undefined },
  lineage: Lineage,
  echo: Echo = NO_ECHO,
): CredentialMerge {
  const choice = chooseGrant(local, remote, base, lineage, echo);
  const settings = mergeSettings(local, remote, base, echo);
  const grant = choice.side.document.fields;
  const isOther = isOtherAccount(local.document.fields, remote.document.fields);
  const mine = isOther ? withAccountOf(settings.fields, grant) : settings.fields;
  const fields = arrange({ ...mine, ...grantOf(grant) }, remote.document.fields);
  return {
    document: credentialFrom(fields),
    conflicts: [...settings.conflicts, ...(choice.fork ? ['grant'] : [])],
    sought: choice.sought,
  };
}

function mergeSettings(
  local: CredentialSide,
  remote: CredentialSide,
  base: { readonly local: Digest | undefined; readonly remote: Digest | undefined },
  echo: Echo,
) {
  const gutted = !hasSubstance(local.document.fields);
  const guttedRemote = !hasSubstance(remote.document.fields);
  const changedHere: Changed = (name) => {
    if (echo.fields.has(name)) return false;
    const now = local.digest.fields[name];
    if (base.local === undefined || gutted) return now !== undefined && now !== base.local?.fields[name];
    return now !== base.local.fields[name];
  };
  const changedThere: Changed = (name) => {
    const now = remote.digest.fields[name];
    if (base.remote === undefined || guttedRemote) return now !== undefined && now !== base.remote?.fields[name];
    return now !== base.remote.fields[name];
  };
  const fields: [string, JsonObject[string]][] = [];
  const conflicts: string[] = [];
  const names = new Set(
    [...Object.keys(remote.document.fields), ...Object.keys(local.document.fields)].filter((name) => !isGrantField(name)),
  );
  for (const name of names) {
    const differs = local.digest.fields[name] !== remote.digest.fields[name];
    const here = differs && changedHere(name);
    const there = differs && changedThere(name);
    if (here && there) conflicts.push(name);
    const keepLocal = (here && !there) || (!here && !there && guttedRemote && !(name in remote.document.fields));
    const value = (keepLocal ? local : remote).document.fields[name];
    if (value !== undefined) fields.push([name, value]);
  }
  return { fields: Object.fromEntries(fields), conflicts };
}

interface GrantChoice {
  readonly side: CredentialSide;
  readonly fork: boolean;
  readonly sought: Fingerprint | undefined;
}

function chooseGrant(
  local: CredentialSide,
  remote: CredentialSide,
  base: { readonly local: Digest | undefined; readonly remote: Digest | undefined },
  lineage: Lineage,
  echo: Echo,
): GrantChoice {
  const take = (side: CredentialSide, more: Partial<GrantChoice> = {}): GrantChoice => ({
    side,
    fork: false,
    sought: undefined,
    ...more,
  });
  const remoteIsStale = isStale(remote.digest.fingerprint, lineage);
  if (local.digest.grant === remote.digest.grant || !hasGrant(local))
    return take(remote, { sought: remoteIsStale ? newestOf(lineage) : undefined });
  if (!hasGrant(remote)) return take(local);

  const wholeHere = refreshTokenOf(local.document.fields) !== undefined;
  const wholeThere = refreshTokenOf(remote.document.fields) !== undefined;
  const localIsKnown = local.digest.fingerprint !== undefined && lineage.includes(local.digest.fingerprint);
  if (remoteIsStale) {
    const isBetter = !localIsKnown || local.digest.fingerprint === newestOf(lineage);
    return isBetter && (wholeHere || !wholeThere) ? take(local) : take(remote, { sought: newestOf(lineage) });
  }
  if (isStale(local.digest.fingerprint, lineage)) return take(remote);

  const isOlderThere = !remembers(lineage, base.remote) && compareIssued(local, remote) > 0;
  if (wholeThere && !wholeHere) return take(remote, { sought: isOlderThere ? local.digest.fingerprint : undefined });
  if (wholeHere && !wholeThere) return take(local);

  const changedHere = !echo.grant && (local.digest.grant !== base.local?.grant || !remembers(lineage, base.remote));
  const changedThere = remote.digest.grant !== base.remote?.grant;
  if (!changedHere) return take(remote);
  if (!changedThere) return take(local);
  const sameToken = local.digest.fingerprint === remote.digest.fingerprint;
  return take(laterIssued(local, remote), { fork: !sameToken });
}

/** False for a store that went back to a time before the grant that it last showed: it was restored from a copy, together with its lineage. */
function remembers(lineage: Lineage, shown: Digest | undefined): boolean {
  return shown?.fingerprint === undefined || lineage.includes(shown.fingerprint);
}

function hasGrant({ document }: CredentialSide): boolean {
  const grant = grantOf(document.fields);
  return Object.keys(grant).length > 0 && hasSubstance(grant);
}

/** The grant that was issued later; equal ones by fingerprint, so that every replica chooses alike. */
function laterIssued(local: CredentialSide, remote: CredentialSide): CredentialSide {
  const tieBreaker = ({ digest }: CredentialSide): string => `${digest.fingerprint ?? ''}${digest.grant ?? ''}`;
  const order = compareIssued(local, remote) || (tieBreaker(local) > tieBreaker(remote) ? 1 : -1);
  return order > 0 ? local : remote;
}

/** More than 0 for a local grant that was issued later, by the first rank that tells the two apart; 0 where none does. */
function compareIssued(local: CredentialSide, remote: CredentialSide): number {
  const there = issuedOf(remote.document.fields);
  for (const { rank, at } of issuedOf(local.document.fields)) {
    const other = there.find((issued) => issued.rank === rank);
    if (other !== undefined && other.at !== at) return at - other.at;
  }
  return 0;
}

/** Keeps the order of keys of the document that a merge started from. */
function arrange(fields: JsonObject, like: JsonObject): JsonObject {
  const order = [
    ...Object.keys(like).filter((name) => Object.hasOwn(fields, name)),
    ...Object.keys(fields).filter((name) => !Object.hasOwn(like, name)),
  ];
  return Object.fromEntries(order.flatMap((name) => (fields[name] === undefined ? [] : [[name, fields[name]]])));
}
