import type { DocumentKey } from '../documents/document-key.js';
import type { Fingerprint, TokenId } from '../documents/hasher.js';
import type { Clock, RandomSource } from '../ports/clock.js';
import type { ClaimBook, Purpose, Taking } from './claim-book.js';
import type { ClaimState } from './claim.js';
import type { CustodyCounts, CustodyEvent, Outcome } from './custody-events.js';
import type { Phase, Reason, Visit, VisitJournal } from './visit.js';

/** How long CLIProxyAPI may take to answer: it can pause for 30 s, and gives up after 93 more. */
export const ANSWER_MS = 150_000;
const RENEW_MS = 5 * 60_000;

/** A visit that goes on, with what is forgotten at a restart. Instants are by the monotonic clock. */
export interface OpenVisit {
  readonly visit: Visit;
  readonly startedAt: number;
  readonly claimedAt: number;
  /** The same by the clock on the wall, which goes on while the machine sleeps. */
  readonly claimedOn: number;
  readonly unsealedAt: number | undefined;
  readonly waitsUntil: number;
  readonly sealedAt: number | undefined;
  readonly renewedAt: number;
  readonly outcome: Outcome;
  /** A person deleted the credential before the answer came. */
  readonly isDeleted: boolean;
}

export interface VisitsParts {
  readonly claims: ClaimBook;
  readonly journal: VisitJournal;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly emit: (event: CustodyEvent) => void;
}

/** The visits that go on in one workspace: the journal, and the claims that it stands for. A note in the journal always comes before what it notes. */
export class Visits {
  readonly #parts: VisitsParts;
  readonly #open = new Map<DocumentKey, OpenVisit>();
  #wholeMs = 0;
  readonly #counts: Record<Outcome, number> = { refreshed: 0, 'no answer': 0, echoed: 0, sealed: 0, 'let go': 0, lost: 0 };

  constructor(parts: VisitsParts) {
    this.#parts = parts;
  }

  /** Takes up what a process before this one left. What it may have unsealed counts as unsealed. */
  restore(): void {
    for (const visit of this.#parts.journal.all()) {
      const phase = visit.phase === 'unsealing' ? 'waiting' : visit.phase;
      this.#keep({ ...visit, phase });
    }
  }

  /** A claim of this replica that no journal knows: its file is watched, and never unsealed. */
  async adopt(key: DocumentKey, nonce: string, token: TokenId): Promise<void> {
    const visit = this.#open.get(key)?.visit;
    if (visit === undefined)
      await this.#note({ ...this.#new(key, 'found', 'waiting'), nonce, tokens: [token], unsealed: token, isAdopted: true });
    else if (visit.nonce === nonce && !visit.tokens.includes(token)) await this.#note({ ...visit, tokens: [...visit.tokens, token] });
  }

  get(key: DocumentKey): OpenVisit | undefined {
    return this.#open.get(key);
  }

  all(): OpenVisit[] {
    return [...this.#open.values()];
  }

  /** For how long the files of visits were whole, in ms. */
  get wholeMs(): number {
    return Math.round(this.#wholeMs);
  }

  get counts(): CustodyCounts['visits'] {
    return { ...this.#counts };
  }

  purposeOf({ visit: { key, nonce } }: OpenVisit, expires?: number): Purpose {
    return { document: key, nonce, expires };
  }

  /** Notes that a token is about to be claimed, then claims it. What could not be had leaves no trace. */
  async claim(
    key: DocumentKey,
    token: TokenId,
    how: {
      readonly because: Reason;
      readonly phase: Phase;
      readonly expires: number | undefined;
      readonly account: string;
      readonly isNew?: boolean;
    },
  ): Promise<Taking> {
    const before = this.#open.get(key);
    const start = before?.visit ?? this.#new(key, how.because, 'claiming');
    const others = start.claiming.filter((each) => each !== token);
    const open = await this.#note({ ...start, claiming: [...others, token] });
    const taking = await this.#parts.claims.take(token, this.purposeOf(open, how.expires), how.isNew);
    if (taking.status === 'taken') {
      const earlier = start.tokens.filter((known) => known !== token);
      // Whoever put it there, the proxy may be at work on it.
      const found = before === undefined && how.because === 'found' ? { unsealed: token } : {};
      const visit = {
        ...start,
        ...found,
        phase: how.phase,
        claiming: others,
        tokens: [...earlier, token],
        ...successionOf(start, token, how.account),
      };
      await this.#note(visit, { ...this.#claimedNow, renewedAt: this.#parts.clock.monotonic() });
    } else if (before === undefined) await this.#forget(key);
    else await this.#note({ ...start, claiming: others });
    return taking;
  }

  /** Notes that the claimed token is written into the workspace from now on. Durable before it is. */
  async willUnseal(open: OpenVisit, token: TokenId): Promise<void> {
    await this.#note({ ...open.visit, phase: 'unsealing', unsealed: token });
  }

  /** The next visit of a token that is still claimed from the last one. `undefined` when it is not ours any more. */
  async begin(open: OpenVisit, because: Reason): Promise<OpenVisit | undefined> {
    const still = await this.#moveAll(open, 'open');
    if (still === undefined) return undefined;
    const now = this.#parts.clock.monotonic();
    const next = { ...still.visit, because, began: this.#parts.clock.now(), phase: 'claiming' as const };
    return this.#note(next, { ...this.#fresh(), ...this.#claimedNow, startedAt: now });
  }

  /** The file is about to be written whole, which happens once for each token. */
  unsealed(key: DocumentKey, isWritten: boolean): void {
    const open = this.#open.get(key);
    if (open === undefined) return;
    const phase = isWritten ? 'waiting' : 'unsealing';
    const now = this.#parts.clock.monotonic();
    this.#open.set(key, { ...open, visit: { ...open.visit, phase }, waitsUntil: now + ANSWER_MS, unsealedAt: isWritten ? now : undefined });
  }

  async enter(open: OpenVisit, phase: Phase, more: Partial<Pick<OpenVisit, 'outcome' | 'isDeleted'>> = {}): Promise<OpenVisit> {
    const sealedAt = phase === 'quiet' ? this.#parts.clock.monotonic() : undefined;
    return this.#note({ ...open.visit, phase }, { ...more, sealedAt });
  }

  /** The visit with an answer that is about to be claimed in one write with its document; to be noted with what it replaces. */
  answered(open: OpenVisit, token: TokenId, account: string): OpenVisit {
    const { visit } = open;
    const claiming = [...visit.claiming.filter((each) => each !== token), token];
    return { ...open, visit: { ...visit, claiming, ...successionOf(visit, token, account) } };
  }

  /** Notes which tokens a push replaces, before it is made. */
  async willReplace(open: OpenVisit, replaced: readonly TokenId[], grant: Fingerprint | undefined): Promise<void> {
    await this.#note({ ...open.visit, replaced, ...(grant === undefined ? {} : { replacedGrant: grant }) });
  }

  /** The store has the new grant: what it replaced is spent, for ever. With `claimed` both was written together with the document. */
  async closeReplaced(open: OpenVisit, claimed?: TokenId): Promise<void> {
    const { visit } = open;
    if (claimed === undefined) await Promise.all(visit.replaced.map((token) => this.#parts.claims.spend(token, this.purposeOf(open))));
    const isLeft = (token: TokenId): boolean => !visit.replaced.includes(token);
    const held = claimed === undefined || visit.tokens.includes(claimed) ? visit.tokens : [...visit.tokens, claimed];
    const [tokens, succeeded] = [held.filter(isLeft), visit.succeeded.filter(isLeft)];
    const claiming = visit.claiming.filter((token) => token !== claimed);
    await this.#note(
      { ...visit, tokens, succeeded, claiming, replaced: [], phase: visit.phase === 'kept' ? 'kept' : 'sealing' },
      { outcome: 'refreshed', ...(claimed === undefined ? {} : { ...this.#claimedNow, renewedAt: this.#parts.clock.monotonic() }) },
    );
  }

  /** The file is sealed: says so in the claims, and watches. */
  async sealed(open: OpenVisit, outcome = open.outcome): Promise<void> {
    if (open.unsealedAt !== undefined) this.#wholeMs += this.#parts.clock.monotonic() - open.unsealedAt;
    const quiet = await this.enter(open, 'quiet', { outcome });
    await this.#moveAll(quiet, 'sealed');
  }

  /** Lets the claims go, as free; a token whose successor was seen is spent. */
  async release(open: OpenVisit, outcome = open.outcome): Promise<void> {
    const { claims } = this.#parts;
    const { tokens, claiming, succeeded } = open.visit;
    for (const token of [...tokens, ...claiming])
      await claims.move(token, this.purposeOf(open), succeeded.includes(token) ? 'spent' : 'free');
    await this.#end(open, outcome);
  }

  /** Dates the claims anew, as long as somebody watches. */
  async renew(open: OpenVisit): Promise<void> {
    const now = this.#parts.clock.monotonic();
    if (now - open.renewedAt < RENEW_MS) return;
    this.#open.set(open.visit.key, { ...open, renewedAt: now });
    await this.#moveAll(open, open.visit.phase === 'quiet' ? 'sealed' : 'open');
  }

  /** Claims that are not ours any more leave the visit; without any it is over, and `undefined`. */
  async #moveAll(open: OpenVisit, to: ClaimState): Promise<OpenVisit | undefined> {
    const { tokens } = open.visit;
    const moved = await Promise.all(tokens.map((token) => this.#parts.claims.move(token, this.purposeOf(open), to)));
    if (moved.every(Boolean)) return open;
    if (moved.some(Boolean)) return this.#note({ ...open.visit, tokens: tokens.filter((_, n) => moved[n]) });
    await this.#end(open, 'lost');
    return undefined;
  }

  async #end(open: OpenVisit, outcome: Outcome): Promise<void> {
    const { key, because } = open.visit;
    await this.#forget(key);
    this.#counts[outcome] += 1;
    const afterMs = Math.round(this.#parts.clock.monotonic() - open.startedAt);
    this.#parts.emit({ type: 'visit-ended', key, because, outcome, afterMs });
  }

  async #forget(key: DocumentKey): Promise<void> {
    await this.#parts.journal.delete(key);
    this.#open.delete(key);
  }

  async #note(visit: Visit, more: Partial<OpenVisit> = {}): Promise<OpenVisit> {
    const before = this.#open.get(visit.key);
    if (JSON.stringify(before?.visit) !== JSON.stringify(visit)) await this.#parts.journal.set(visit);
    const open = { ...(this.#open.get(visit.key) ?? { ...this.#fresh(), startedAt: this.#parts.clock.monotonic() }), ...more, visit };
    this.#open.set(visit.key, open);
    if (before?.visit.phase !== visit.phase && visit.phase !== 'claiming')
      this.#parts.emit({ type: 'visit', key: visit.key, phase: visit.phase, because: visit.because });
    return open;
  }

  #keep(visit: Visit): void {
    this.#open.set(visit.key, { ...this.#fresh(), visit, startedAt: this.#parts.clock.monotonic() });
  }

  get #claimedNow(): Pick<OpenVisit, 'claimedAt' | 'claimedOn'> {
    const { clock } = this.#parts;
    return { claimedAt: clock.monotonic(), claimedOn: clock.now() };
  }

  #fresh(): Omit<OpenVisit, 'visit' | 'startedAt'> {
    const now = this.#parts.clock.monotonic();
    return {
      claimedAt: -Infinity,
      claimedOn: -Infinity,
      unsealedAt: undefined,
      waitsUntil: now + ANSWER_MS,
      sealedAt: now,
      renewedAt: now,
      outcome: 'sealed',
      isDeleted: false,
    };
  }

  #new(key: DocumentKey, because: Reason, phase: Phase): Visit {
    const { random, clock } = this.#parts;
    const nonce = Array.from({ length: 4 }, () => Math.floor(random() * 2 ** 32).toString(36)).join('');
    return { key, nonce, because, phase, began: clock.now(), tokens: [], succeeded: [], claiming: [], replaced: [] };
  }
}

/** What a new token says of the others: it succeeds those of its account. */
function successionOf(
  { tokens, succeeded, accounts = {} }: Visit,
  token: TokenId,
  account: string,
): Required<Pick<Visit, 'succeeded' | 'accounts'>> {
  const before = tokens.filter((each) => each !== token && accounts[each] === account);
  const known = Object.entries(accounts).filter(([each]) => tokens.includes(each as TokenId));
  return { succeeded: [...new Set([...succeeded, ...before])], accounts: { ...Object.fromEntries(known), [token]: account } };
}
