import { recordKey, type DocumentKey, type RecordKey } from '../documents/document-key.js';
import type { TokenId } from '../documents/hasher.js';
import { checkFormat, CURRENT_FORMAT } from '../format-version.js';
import type { Revision } from '../ports/token-store.js';

/**
 * - `open`: the proxy of the replica may know the token.
 * - `sealed`: the same, and its file is sealed again.
 * - `free`: nobody knows it but the store.
 * - `spent`: it was used. For ever.
 */
export type ClaimState = 'open' | 'sealed' | 'free' | 'spent';

/** The store's record that one replica may know a refresh token. Times are by the store's clock, in ms since the epoch. */
export interface Claim {
  readonly state: ClaimState;
  readonly replica: string;
  readonly document: DocumentKey;
  /** Tells one taking of a token from another by the same replica. */
  readonly nonce: string;
  readonly since: number;
  readonly changed: number;
  /** When the access token ends that was issued with the token, where known. */
  readonly expires?: number;
}

/** A claim as it was read, ready to be changed by compare-and-set. */
export interface FoundClaim extends Claim {
  readonly revision: Revision;
}

export function claimKey(token: TokenId): RecordKey {
  return recordKey('claims', token);
}

export function claimText(claim: Claim): string {
  const { state, replica, document, nonce, since, changed, expires } = claim;
  return JSON.stringify({
    ...CURRENT_FORMAT,
    state,
    replica,
    document,
    nonce,
    since,
    changed,
    ...(expires === undefined ? {} : { expires }),
  });
}

/** @throws TokenmirrorError FORMAT_NEWER, FORMAT_DAMAGED */
export function readClaim(text: string, key: RecordKey): Claim {
  let claim: unknown;
  try {
    claim = JSON.parse(text);
  } catch {
    claim = undefined;
  }
  checkFormat(claim, `the record ${key} in the store`);
  return claim as Claim;
}

/** True while some replica's proxy may know the token. */
export function isHeld({ state }: Claim): boolean {
  return state === 'open' || state === 'sealed';
}

/** A sealed claim whose replica did not renew it for so long may be taken over. It is renewed every five minutes. */
export const SEALED_LASTS_MS = 15 * 60_000;
/** An open one, after the later of the access token's end and its last change. The service is down by then. */
export const OPEN_LASTS_MS = 2 * 60 * 60_000;

/** When a held claim may be taken over from a replica that does not come back, by the store's clock. */
export function abandonedAt({ state, changed, expires = 0 }: Claim): number {
  return state === 'sealed' ? changed + SEALED_LASTS_MS : Math.max(changed, expires) + OPEN_LASTS_MS;
}
