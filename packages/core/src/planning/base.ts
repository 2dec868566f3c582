import type { DocumentKey } from '../documents/document-key.js';
import type { Digest } from '../documents/digest.js';
import type { Hash } from '../documents/hasher.js';
import type { Json } from '../documents/strict-json.js';
import type { Revision } from '../ports/token-store.js';

/** Identifies one content of a file cheaply. Never proof of equality, only of "not touched since". */
export interface StatHint {
  readonly size: number;
  readonly ino: string;
  readonly mtimeNs: string;
  readonly ctimeNs: string;
}

/** What the workspace last showed. */
export interface LocalHalf extends Digest {
  /** Absent when the file had changed too recently for its times to tell a later change apart. */
  readonly stat?: StatHint;
}

/** What the store last showed. */
export type RemoteHalf =
  | { readonly state: 'live'; readonly revision: Revision; readonly digest: Digest }
  | { readonly state: 'deleted'; readonly revision: Revision };

/** What of a file was replaced or deleted together, by us or by anyone: the old values, `null` for what was not there. */
export interface Replaced {
  /** ms since the epoch. */
  readonly at: number;
  readonly fields: Readonly<Record<string, Hash | null>>;
  /** Absent when the grant stayed. */
  readonly grant?: Hash | null;
}

/** Noted before a credential is disabled in order to be deleted, so that after a crash the `disabled` is known as ours. */
export interface Retirement {
  /** Of the credential as it was, and as it is written to be disabled. */
  readonly original: Hash;
  readonly retired: Hash;
  /** What `disabled` was; absent when the field was not there. */
  readonly disabledBefore?: Json;
}

/**
 * What this replica and the authority last agreed on for one document. The two halves move separately, each only by what was really
 * read or written there.
 */
export interface Base {
  readonly key: DocumentKey;
  readonly local?: LocalHalf;
  readonly remote?: RemoteHalf;
  /** What was replaced lately, newest first. It outlives both halves for a while. */
  readonly replaced?: readonly Replaced[];
  readonly retiring?: Retirement;
}

/** Older ones cannot come back as an echo; see `REFRESH_MS`. A clock that was put back keeps them for longer, up to their number. */
const REMEMBERED_MS = 150_000;
const MOST_REMEMBERED = 32;

/** The base after its workspace half became `local`, at `now`; what stood there before is remembered. Ends a retirement. */
export function withLocal(base: Base, local: LocalHalf | undefined, now: number): Base {
  const replaced = remembered(base, now);
  const before = base.local;
  const isNew = before !== undefined && before.hash !== local?.hash;
  const all = isNew ? [replacementOf(before, local, now), ...replaced].slice(0, MOST_REMEMBERED) : replaced;
  return {
    key: base.key,
    ...(local === undefined ? {} : { local }),
    ...(base.remote === undefined ? {} : { remote: base.remote }),
    ...(all.length === 0 ? {} : { replaced: all }),
  };
}

/** False for a base that only remembers what stood here once. */
export function isInUse(base: Base | undefined): boolean {
  return base?.local !== undefined || base?.remote !== undefined;
}

/** What is left of the base of a document that neither side has: `undefined` when nothing is to be remembered any more. */
export function forgotten(base: Base, now: number): Base | undefined {
  const { replaced } = withLocal(base, undefined, now);
  return replaced === undefined ? undefined : { key: base.key, replaced };
}

function remembered({ replaced = [] }: Base, now: number): readonly Replaced[] {
  return replaced.filter(({ at }) => now - at <= REMEMBERED_MS);
}

function replacementOf(before: Digest, after: Digest | undefined, at: number): Replaced {
  const names = fieldsThatDiffer(before, after);
  const fields = Object.fromEntries(names.map((name) => [name, before.fields[name] ?? null]));
  return { at, fields, ...(before.grant === after?.grant && after !== undefined ? {} : { grant: before.grant ?? null }) };
}

/** Names of the settings, or sections, that are not the same in both. */
export function fieldsThatDiffer(one: Digest | undefined, other: Digest | undefined): string[] {
  const names = new Set([...Object.keys(one?.fields ?? {}), ...Object.keys(other?.fields ?? {})]);
  return [...names].filter((name) => one?.fields[name] !== other?.fields[name]);
}
