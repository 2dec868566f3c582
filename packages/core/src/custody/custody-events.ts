import type { DocumentKey } from '../documents/document-key.js';
import type { ClusterMode } from './cluster-mode.js';
import type { Liveness } from './quiet-clock.js';
import type { Phase, Reason } from './visit.js';

/** How a visit ended. `no answer`: CLIProxyAPI did not refresh in time. `echoed`: it put the sealed file back before it had seen the whole one. */
export type Outcome = 'refreshed' | 'no answer' | 'echoed' | 'sealed' | 'let go' | 'lost';

/** What custody did or could not do. Names and reasons only. */
export type CustodyEvent =
  | { readonly type: 'custody-mode'; readonly mode: ClusterMode }
  | { readonly type: 'visit'; readonly key: DocumentKey; readonly phase: Phase; readonly because: Reason }
  | {
      readonly type: 'visit-ended';
      readonly key: DocumentKey;
      readonly because: Reason;
      readonly outcome: Outcome;
      readonly afterMs: number;
    }
  /** The file holds a token that another replica may know. */
  | { readonly type: 'token-held'; readonly key: DocumentKey; readonly replica: string }
  /** The file holds a token that was used already. */
  | { readonly type: 'token-spent'; readonly key: DocumentKey }
  | { readonly type: 'claim-taken-over'; readonly key: DocumentKey; readonly replica: string }
  /** A provider refused an access token before its time. `woken`: it was the one before, and the new one is used again; `too soon`: it was refreshed for that a moment ago. */
  | { readonly type: 'access-token-died'; readonly key: DocumentKey; readonly healing: 'woken' | 'asked' | 'too soon' }
  /** It should have been refreshed, and was not. */
  | { readonly type: 'overdue'; readonly key: DocumentKey; readonly because: string };

export const CUSTODY_EVENTS = [
  'custody-mode',
  'visit',
  'visit-ended',
  'token-held',
  'token-spent',
  'claim-taken-over',
  'access-token-died',
  'overdue',
] as const satisfies readonly CustodyEvent['type'][];

/** What a replica does about refresh tokens right now. */
export interface CustodyReport {
  readonly mode: ClusterMode | undefined;
  readonly isRefresher: boolean;
  readonly proxy: Liveness;
  readonly visits: readonly {
    readonly key: DocumentKey;
    readonly phase: Phase;
    readonly because: Reason;
    /** ms since the epoch. */
    readonly began: number;
  }[];
  /** Credentials that should have been refreshed, and why this replica does not. */
  readonly overdue: readonly { readonly key: DocumentKey; readonly because: string | undefined }[];
  /** Credentials whose claim was taken from a replica that did not come back, in the last hour. */
  readonly abandoned: readonly { readonly key: DocumentKey; readonly replica: string }[];
  /** Credentials that are due, and whose claim is held by a replica that does not renew it. */
  readonly silentHolders: readonly { readonly key: DocumentKey; readonly replica: string }[];
  /** Credentials whose access token died soon after it was refreshed for the same reason. */
  readonly diedAgain: readonly DocumentKey[];
  readonly counts: CustodyCounts;
}

export interface CustodyCounts {
  readonly visits: Readonly<Record<Outcome, number>>;
  /** Sealed files that came back whole. */
  readonly echoes: number;
  readonly takenOver: number;
  /** What was done about access tokens that died before their time. */
  readonly healings: Readonly<Record<'woken' | 'asked' | 'too soon', number>>;
  /** For how long refresh tokens stood in the workspace, in all visits together, in ms. */
  readonly wholeMs: number;
}
