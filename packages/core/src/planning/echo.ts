import type { Digest } from '../documents/digest.js';
import type { CredentialDocument } from '../documents/document.js';
import type { JsonObject } from '../documents/strict-json.js';
import { fieldsThatDiffer, type Base, type Replaced } from './base.js';
import { isStale, type Lineage } from './lineage.js';

/** What was replaced, and how long ago. */
export type Recollection = Pick<Replaced, 'fields' | 'grant'> & { readonly ageMs: number };

/** What of a local change is only CLIProxyAPI saving its older copy. */
export interface Echo {
  /** Settings that went back to what they were. */
  readonly fields: ReadonlySet<string>;
  /** The grant went back to what it was. */
  readonly grant: boolean;
  /** Nothing in the change is new. */
  readonly whole: boolean;
  /** The settings went back because a refresh began with them, which is no conflict. */
  readonly isRefresh: boolean;
  /** All that changed is what CLIProxyAPI adds by itself. */
  readonly isOwnAddition: boolean;
}

/** Default for how long after a replacement the old content is taken for an echo, and not for a person's edit back to it. */
export const DEFAULT_ECHO_MS = 5000;
/** A refresh that was in flight writes the settings with which it started; it is over after 93 s. */
export const REFRESH_MS = 120_000;

export const NO_ECHO: Echo = { fields: new Set(), grant: false, whole: false, isRefresh: false, isOwnAddition: false };

/**
 * Finds what of a credential in the workspace is an echo: a grant that the lineage knows as replaced, whatever its age; and what equals a content that was
 * replaced a moment ago. A new grant brings back the settings with which its refresh began, so for those the moment is two minutes.
 */
export function findEcho(
  local: { readonly document: CredentialDocument; readonly digest: Digest },
  lineage: Lineage,
  base: Base | undefined,
  recent: readonly Recollection[],
  echoMs: number,
): Echo {
  const { document, digest } = local;
  const before = base?.local;
  if (digest.hash === before?.hash) return NO_ECHO;
  const isGrantChanged = digest.grant !== before?.grant;
  const changed = fieldsThatDiffer(before, digest);
  if (isGrantChanged && isStale(digest.fingerprint, lineage)) return { ...NO_ECHO, fields: new Set(changed), grant: true, whole: true };

  const lately = recent.filter(({ ageMs }) => ageMs <= echoMs);
  const isGrantBack = isGrantChanged && lately.some((old) => hadGrant(old, digest));
  const isRefresh = isGrantChanged && !isGrantBack && digest.fingerprint !== undefined && !lineage.includes(digest.fingerprint);
  const within = isRefresh ? recent.filter(({ ageMs }) => ageMs <= REFRESH_MS) : lately;
  const wentBack = (name: string): boolean =>
    within.some(
      (old) => old.fields[name] === (digest.fields[name] ?? null) || (old.fields[name] === null && isOwnDefault(name, document.fields)),
    );
  const fields = new Set(changed.filter(wentBack));
  const isOwn = (name: string): boolean => isAddedByProxy(name, document.fields, before);
  const isNothingNew = (!isGrantChanged || isGrantBack) && changed.every((name) => fields.has(name) || isOwn(name));
  return {
    fields,
    grant: isGrantBack,
    whole: (fields.size > 0 || isGrantBack) && isNothingNew,
    isRefresh,
    isOwnAddition: before !== undefined && !isGrantChanged && changed.every(isOwn),
  };
}

/** True when this grant, or the same lack of one, was replaced then. */
export function hadGrant(old: Recollection, { grant }: Digest): boolean {
  return old.grant !== undefined && old.grant === (grant ?? null);
}

/** CLIProxyAPI adds these to whatever it saves, an echo included. */
function isAddedByProxy(name: string, fields: JsonObject, before: Digest | undefined): boolean {
  return before?.fields[name] === undefined && (isOwnDefault(name, fields) || name === 'claude_device_ids');
}

function isOwnDefault(name: string, fields: JsonObject): boolean {
  return name === 'disabled' && fields['disabled'] === false;
}
