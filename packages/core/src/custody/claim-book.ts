import type { Clock } from '../ports/clock.js';
import { readRecordKey, type DocumentKey, type RecordKey } from '../documents/document-key.js';
import type { TokenId } from '../documents/hasher.js';
import type { Change, TokenStore } from '../ports/token-store.js';
import { abandonedAt, claimKey, claimText, isHeld, readClaim, type Claim, type ClaimState, type FoundClaim } from './claim.js';

/** What a token is claimed for. */
export interface Purpose {
  readonly document: DocumentKey;
  readonly nonce: string;
  /** When the access token ends that was issued with the token; ms since the epoch. */
  readonly expires?: number | undefined;
}

export type Taking =
  | { readonly status: 'taken'; readonly from?: Claim }
  /** Somebody may know it: another replica, or this one for another document. */
  | { readonly status: 'held'; readonly claim: Claim }
  | { readonly status: 'spent'; readonly claim: Claim };

/** For how long the store's time is reckoned from the last answer. */
const ASKED_LASTS_MS = 60_000;
/** Clocks that went apart by more than this say that the machine slept. */
const STEP_MS = 1000;

/**
 * The claims in a store, as one replica sees and changes them. Every change is a compare-and-set on the record that was read, never a blind write; what became
 * of a lost reply is found by reading, for a claim is ours if replica, document and nonce are.
 */
export class ClaimBook {
  readonly #store: TokenStore;
  readonly #replica: string;
  readonly #clock: Clock;
  /** The held claims that this process wrote, as it left them. */
  readonly #left = new Map<TokenId, FoundClaim>();
  /** The store's time, as it was asked for a moment ago. */
  #asked: { readonly store: number; readonly monotonic: number; readonly wall: number } | undefined;

  constructor(store: TokenStore, replica: string, clock: Clock) {
    this.#store = store;
    this.#replica = replica;
    this.#clock = clock;
  }

  async read(tokens: readonly TokenId[]): Promise<ReadonlyMap<TokenId, FoundClaim>> {
    const keys = tokens.map(claimKey);
    if (keys.length === 0) return new Map();
    const entries = await this.#store.read(keys);
    const claims = new Map<TokenId, FoundClaim>();
    for (const token of tokens) {
      const entry = entries.get(claimKey(token));
      if (entry?.state === 'live') claims.set(token, { ...readClaim(entry.content, claimKey(token)), revision: entry.revision });
    }
    return claims;
  }

  /** Every claim that some replica holds. O(claims): for a start without a journal, and for people. */
  async held(): Promise<ReadonlyMap<TokenId, FoundClaim>> {
    const { entries } = await this.#store.list();
    const tokens = entries.flatMap(({ name, state }): TokenId[] => {
      const key = readRecordKey(name);
      return state === 'live' && key?.startsWith('claims/') === true ? [key.slice('claims/'.length) as TokenId] : [];
    });
    return new Map([...(await this.read(tokens))].filter(([, claim]) => isHeld(claim)));
  }

  /**
   * Claims a token that nobody knows, or whose holder was given up. A claim that is ours already stays so; an outage leaves open whether it was taken, and the
   * same call tells. With `isNew` it is not looked for first.
   */
  async take(token: TokenId, purpose: Purpose, isNew = false): Promise<Taking> {
    for (let isFirst = isNew; ; isFirst = false) {
      const found = isFirst ? undefined : (await this.read([token])).get(token);
      if (found !== undefined) {
        if (found.state === 'spent') return { status: 'spent', claim: found };
        if (isHeld(found)) {
          if (this.isOurs(found, purpose)) return { status: 'taken' };
          if (found.replica === this.#replica || (await this.#store.now()) < abandonedAt(found)) return { status: 'held', claim: found };
        }
      }
      if (await this.#write(token, 'open', purpose, found))
        return { status: 'taken', ...(found !== undefined && isHeld(found) ? { from: found } : {}) };
    }
  }

  /** Moves a claim of ours on; `false` when it is not ours any more. */
  async move(token: TokenId, purpose: Purpose, to: ClaimState): Promise<boolean> {
    for (;;) {
      const found = (await this.read([token])).get(token);
      const isOurs = found !== undefined && this.isOurs(found, purpose);
      if (!isOurs || !isHeld(found)) return isOurs && found.state === to;
      if (await this.#write(token, to, purpose, found)) return true;
    }
  }

  /** Closes a token that was used, or replaced. One that another replica may still know is left to it. */
  async spend(token: TokenId, purpose: Purpose): Promise<void> {
    for (;;) {
      const found = (await this.read([token])).get(token);
      if (found?.state === 'spent') return;
      if (found !== undefined && isHeld(found) && found.replica !== this.#replica) return;
      if (await this.#write(token, 'spent', purpose, found)) return;
    }
  }

  /** What the store is to hold when an answer came: the new token claimed, and what it replaces spent. To be written together with the document. */
  async succession(token: TokenId, purpose: Purpose, replaced: readonly TokenId[]): Promise<readonly Change[]> {
    const unknown = await this.read(replaced.filter((old) => !this.#left.has(old)));
    const now = await this.#now();
    const changes = [this.#changeOf(token, 'open', purpose, undefined, now)];
    for (const old of replaced) {
      const found = this.#left.get(old) ?? unknown.get(old);
      this.#left.delete(old);
      const isTheirs = found !== undefined && isHeld(found) && found.replica !== this.#replica;
      if (found?.state !== 'spent' && !isTheirs)
        changes.push(this.#changeOf(old, 'spent', { document: purpose.document, nonce: purpose.nonce }, found, now));
    }
    return changes;
  }

  /** Frees a claim whatever its replica thinks of it, because a person says so; not one that somebody took meanwhile. */
  async free(token: TokenId, held: Claim): Promise<void> {
    for (;;) {
      const found = (await this.read([token])).get(token);
      if (found === undefined || !isHeld(found) || found.replica !== held.replica || found.nonce !== held.nonce) return;
      if (await this.#write(token, 'free', found, found)) return;
    }
  }

  isOurs({ replica, document, nonce }: Claim, purpose: Purpose): boolean {
    return replica === this.#replica && document === purpose.document && nonce === purpose.nonce;
  }

  async #write(token: TokenId, state: ClaimState, purpose: Purpose, before: FoundClaim | undefined): Promise<boolean> {
    const change = this.#changeOf(token, state, purpose, before, await this.#now());
    const [outcome] = await this.#store.write([change], this.#replica);
    this.#left.delete(token);
    if (outcome?.status !== 'written') return false;
    const claim = readClaim(change.content, change.key);
    if (isHeld(claim)) this.#left.set(token, { ...claim, revision: outcome.revision });
    return true;
  }

  #changeOf(
    token: TokenId,
    state: ClaimState,
    { document, nonce, expires }: Purpose,
    before: FoundClaim | undefined,
    now: number,
  ): Change & { readonly key: RecordKey; readonly content: string } {
    const isSame = before !== undefined && this.isOurs(before, { document, nonce });
    const since = isSame ? before.since : now;
    const end = expires ?? (isSame ? before.expires : undefined);
    const claim: Claim = {
      state,
      replica: this.#replica,
      document,
      nonce,
      since,
      changed: now,
      ...(end === undefined ? {} : { expires: end }),
    };
    return { key: claimKey(token), expected: before?.revision ?? ('absent' as const), content: claimText(claim), lineage: [] };
  }

  /** Good enough to date a change; who takes a claim over asks the store itself. */
  async #now(): Promise<number> {
    const [monotonic, wall] = [this.#clock.monotonic(), this.#clock.now()];
    const passed = this.#asked === undefined ? Infinity : monotonic - this.#asked.monotonic;
    const isInStep = this.#asked !== undefined && Math.abs(wall - this.#asked.wall - passed) < STEP_MS;
    if (this.#asked === undefined || passed > ASKED_LASTS_MS || !isInStep)
      this.#asked = { store: await this.#store.now(), monotonic, wall };
    return Math.round(this.#asked.store + this.#clock.monotonic() - this.#asked.monotonic);
  }
}
