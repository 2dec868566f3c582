import type { DocumentKey } from '../documents/document-key.js';
import type { Fingerprint, TokenId } from '../documents/hasher.js';

/**
 * Where a visit is. It moves on in this order, and starts in the middle where a whole file was found.
 *
 * - `claiming`: the token is being claimed; nothing was unsealed.
 * - `unsealing`: it is claimed, and the file may be written whole, once. After a crash it counts as written.
 * - `waiting`: the file is whole, or was; the new grant is waited for, and goes to the store.
 * - `sealing`: the file is to be written without its refresh token.
 * - `quiet`: it is sealed, and watched for what CLIProxyAPI still writes.
 * - `kept`: a whole file of a provider that nobody has classified stays with this replica.
 */
export type Phase = 'claiming' | 'unsealing' | 'waiting' | 'sealing' | 'quiet' | 'kept';

export type Reason = 'due' | 'asked' | 'found';

/** One stay of a refresh token in a workspace, as the journal keeps it: durable, and with no token in clear. */
export interface Visit {
  readonly key: DocumentKey;
  readonly nonce: string;
  readonly because: Reason;
  readonly phase: Phase;
  /** ms since the epoch, by the clock of this host. */
  readonly began: number;
  /** What the proxy may know, claimed under the nonce. */
  readonly tokens: readonly TokenId[];
  /** Those of them whose successor was seen: they were used. */
  readonly succeeded: readonly TokenId[];
  /** Whose they are, as keyed hashes, as far as that is known: a login of somebody else in the same file is no successor. */
  readonly accounts?: Readonly<Record<TokenId, string>>;
  /** Its claims were found in the store, and no journal tells which of them was unsealed. */
  readonly isAdopted?: true;
  /** What is being claimed; whether it was is not known yet. */
  readonly claiming: readonly TokenId[];
  /** What a push replaces, or replaced: to be closed as soon as the store has the new grant. */
  readonly replaced: readonly TokenId[];
  /** What was written into the workspace to be refreshed. No token is written there twice while it is claimed: the second copy could meet a refresh in flight. */
  readonly unsealed?: TokenId;
  /** The grant that was replaced, by which other documents that hold it are found. */
  readonly replacedGrant?: Fingerprint;
}

/** True for a claimed token that was never unsealed, so that the next visit may begin with it. */
export function isNextIn({ tokens, unsealed, isAdopted }: Visit, token: TokenId): boolean {
  return isAdopted !== true && tokens.includes(token) && unsealed !== token;
}

/** The visits of one workspace, durable. Reads are from memory. */
export interface VisitJournal {
  /** What the files were made for last; `new` until that was noted once: then claims may be held that the journal does not know. */
  readonly made: 'new' | 'whole' | 'sealed';
  note(made: 'whole' | 'sealed'): Promise<void>;
  all(): Iterable<Visit>;
  /** Durable when resolved. */
  set(visit: Visit): Promise<void>;
  delete(key: DocumentKey): Promise<void>;
}
