import type { DocumentKey } from '../documents/document-key.js';
import type { Fingerprint } from '../documents/hasher.js';
import type { Clock, RandomSource } from '../ports/clock.js';
import type { TokenStore } from '../ports/token-store.js';
import type { Claim } from './claim.js';
import { endHandover, type ClusterMode } from './cluster-mode.js';
import type { CustodianOptions, CustodyEngine } from './custody.js';
import type { CustodyEvent } from './custody-events.js';
import type { DueBook } from './due-book.js';
import { QuietClock, type Liveness } from './quiet-clock.js';
import { isNextIn, type Reason } from './visit.js';
import type { OpenVisit, Visits } from './visits.js';

export interface VisitScheduleParts {
  readonly store: TokenStore;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly replicaId: string;
  readonly options: CustodianOptions;
  readonly proxy: () => Promise<Liveness>;
  readonly visits: Visits;
  readonly due: DueBook;
  readonly mode: () => ClusterMode | undefined;
  readonly modeChanged: (mode: ClusterMode) => void;
  /** Documents whose file holds a token that this replica has not claimed one by one. */
  readonly wholeFiles: () => Promise<readonly DocumentKey[]>;
  readonly emit: (event: CustodyEvent) => void;
}

const TICK_MS = 2000;
const IDLE_TICK_MS = 30_000;
/** Visits whose file is whole at one time: enough to refresh hundreds in a minute, few enough for a provider. */
const LARGEST_CROWD = 8;
/** Who may refresh a credential waits for up to this long, so that not all replicas ask at once. */
const LARGEST_DELAY_MS = 1000;
/** After a failed refresh CLIProxyAPI leaves a credential alone for five minutes. */
const COOLING_MS = 6 * 60_000;
/** It is tried again ever more rarely. */
const LONGEST_COOLING_MS = 3 * 60 * 60_000;
/** How long another's claim is taken for granted before it is looked at again. */
const HELD_RECHECK_MS = 30_000;
/** A claim that is watched is renewed every five minutes. */
const SILENT_MS = 11 * 60_000;
/** For how long it is told that a claim was taken over. */
const ABANDONED_MS = 60 * 60_000;
/** How long after it fell due a credential counts as overdue: CLIProxyAPI by itself would refresh now. */
const OVERDUE_MS = 10 * 60_000;

/** When each visit begins, goes on and ends: looks at the proxy, waits, and asks the engine to look at a document. Nothing is asked of the store while nothing is due. */
export class VisitSchedule {
  readonly #parts: VisitScheduleParts;
  readonly #quiet: QuietClock;
  /** By the monotonic clock: when a due credential is tried, and before when one is left alone. */
  readonly #starts = new Map<DocumentKey, number>();
  readonly #notBefore = new Map<DocumentKey, number>();
  readonly #turns = new Set<DocumentKey>();
  /** Why a due credential cannot be refreshed from here. */
  readonly #obstacles = new Map<DocumentKey, string>();
  readonly #overdue = new Set<DocumentKey>();
  /** How often a grant was not refreshed although it was asked for. */
  readonly #failures = new Map<DocumentKey, { readonly grant: Fingerprint | undefined; readonly times: number }>();
  #isEnding = false;
  /** Shown sealed although this replica is alone, for another still holds the claim. */
  readonly #withheld = new Set<DocumentKey>();
  #engine: CustodyEngine | undefined;
  #cancel: () => void = () => undefined;
  #ticking = false;
  #stopped = true;
  #wholeSeenAt = 0;
  #withheldAt = 0;
  #echoes = 0;
  #takenOver = 0;
  /** Who holds the claims that stand in the way, and since when their date has not moved. */
  readonly #holders = new Map<DocumentKey, { readonly claim: Claim; readonly since: number }>();
  readonly #abandoned = new Map<DocumentKey, { readonly replica: string; readonly at: number }>();

  constructor(parts: VisitScheduleParts) {
    this.#parts = parts;
    this.#quiet = new QuietClock(parts.clock);
  }

  get echoes(): number {
    return this.#echoes;
  }

  get takenOver(): number {
    return this.#takenOver;
  }

  get abandoned(): readonly { readonly key: DocumentKey; readonly replica: string }[] {
    const now = this.#parts.clock.monotonic();
    return [...this.#abandoned].filter(([, { at }]) => now - at < ABANDONED_MS).map(([key, { replica }]) => ({ key, replica }));
  }

  /** Claims that stand in the way and were not renewed, although whoever watches renews them. */
  get silentHolders(): readonly { readonly key: DocumentKey; readonly replica: string }[] {
    const now = this.#parts.clock.monotonic();
    return [...this.#holders]
      .filter(([, { since }]) => now - since >= SILENT_MS)
      .map(([key, { claim }]) => ({ key, replica: claim.replica }));
  }

  get liveness(): Liveness {
    return this.#quiet.liveness;
  }

  get overdue(): ReadonlySet<DocumentKey> {
    return this.#overdue;
  }

  obstacle(key: DocumentKey): string | undefined {
    return this.#obstacles.get(key);
  }

  attach(engine: CustodyEngine): void {
    this.#engine = engine;
  }

  start(): void {
    this.#stopped = false;
    this.#next(0);
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  /** Looks at everything now, without waiting for the next turn. */
  hurry(): void {
    if (!this.#stopped) this.#next(0);
  }

  /** Something falls due at another time than was known. */
  replan(): void {
    if (!this.#ticking) this.#next(this.#pause());
  }

  /** Whether it is this document's turn to be visited; asked for once. */
  takeTurn(key: DocumentKey): Reason | undefined {
    if (!this.#turns.delete(key)) return undefined;
    return this.#parts.due.isAsked(key) ? 'asked' : 'due';
  }

  async isProxyAlive(): Promise<boolean> {
    await this.#lookAtProxy();
    return this.#quiet.liveness === 'alive';
  }

  isQuiet(sealedAt: number): boolean {
    return this.#quiet.isQuiet(sealedAt);
  }

  processEnded(): void {
    this.#quiet.processEnded();
    this.end();
  }

  /** No visit begins any more, and none waits for its answer. */
  end(): void {
    this.#isEnding = true;
    this.hurry();
  }

  get isEnding(): boolean {
    return this.#isEnding;
  }

  /** Another replica may know the token. */
  isHeld(key: DocumentKey, claim: Claim): void {
    const obstacle = `the replica ${claim.replica} holds its claim (${claim.state})`;
    if (this.#obstacles.get(key) !== obstacle) this.#parts.emit({ type: 'token-held', key, replica: claim.replica });
    this.#obstacles.set(key, obstacle);
    const now = this.#parts.clock.monotonic();
    const before = this.#holders.get(key);
    if (before?.claim.changed !== claim.changed || before.claim.nonce !== claim.nonce) this.#holders.set(key, { claim, since: now });
    this.#notBefore.set(key, now + HELD_RECHECK_MS);
  }

  tookOver(key: DocumentKey, { replica }: Claim): void {
    this.#takenOver += 1;
    this.#abandoned.set(key, { replica, at: this.#parts.clock.monotonic() });
    this.#parts.emit({ type: 'claim-taken-over', key, replica });
  }

  /** CLIProxyAPI did not answer, and leaves the credential alone for a while. */
  failed(key: DocumentKey, grant: Fingerprint | undefined): void {
    const before = this.#failures.get(key);
    const times = before?.grant === grant ? (before?.times ?? 0) + 1 : 1;
    this.#failures.set(key, { grant, times });
    this.#notBefore.set(key, this.#parts.clock.monotonic() + Math.min(LONGEST_COOLING_MS, COOLING_MS * 2 ** (times - 1)));
    this.#obstacles.set(key, 'CLIProxyAPI did not refresh it');
  }

  cannot(key: DocumentKey, why: string): void {
    this.#notBefore.set(key, this.#parts.clock.monotonic() + HELD_RECHECK_MS);
    this.#obstacles.set(key, why);
  }

  withhold(key: DocumentKey): void {
    this.#withheld.add(key);
  }

  echoed(): void {
    this.#echoes += 1;
  }

  /** A token stood in the workspace under the claim on everything that a handing over replica has. */
  sawWhole(): void {
    this.#wholeSeenAt = this.#parts.clock.monotonic();
    this.hurry();
  }

  /** The token of this visit stood in another file of the workspace. */
  async join(key: DocumentKey): Promise<void> {
    const open = this.#parts.visits.get(key);
    if (open?.visit.phase === 'quiet') await this.#parts.visits.enter(open, 'sealing');
  }

  #next(ms: number): void {
    this.#cancel();
    if (this.#stopped) return;
    this.#cancel = this.#parts.clock.after(ms, () => {
      if (this.#ticking) return;
      this.#ticking = true;
      const task = this.#tick().finally(() => {
        this.#ticking = false;
        this.#next(this.#pause());
      });
      this.#engine?.background(task);
    });
  }

  #pause(): number {
    const { clock, due } = this.#parts;
    const now = clock.monotonic();
    const isBusy = this.#isWatching || this.#isHandingOver;
    const start = Math.min(...this.#starts.values(), Infinity) - now;
    const next = this.#parts.mode()?.mode === 'shared' ? (due.nextIn(clock.now()) ?? Infinity) : Infinity;
    return Math.max(5, Math.min(isBusy ? TICK_MS : IDLE_TICK_MS, start, next));
  }

  async #tick(): Promise<void> {
    if (this.#stopped) return;
    const { visits } = this.#parts;
    if (this.#isWatching || this.#isHandingOver) await this.#lookAtProxy();
    if (this.#engine?.isInSync() === true) {
      for (const open of visits.all()) {
        if (this.#isToBeLookedAt(open)) this.#engine.look(open.visit.key);
        else if (open.visit.phase !== 'kept') await visits.renew(open);
      }
      if (this.#isHandingOver && this.#quiet.isQuiet(this.#wholeSeenAt)) await this.#handOver();
      this.#lookAtWithheld();
    }
    this.#startDue();
  }

  #isToBeLookedAt({ visit, waitsUntil, sealedAt }: OpenVisit): boolean {
    if (visit.phase === 'quiet') return sealedAt !== undefined && this.#quiet.isQuiet(sealedAt);
    if (visit.phase === 'waiting') return visit.because === 'found' || this.isEnding || this.#parts.clock.monotonic() >= waitsUntil;
    return visit.phase !== 'kept';
  }

  /** True while a proxy may write something that is waited for. */
  get #isWatching(): boolean {
    return this.#parts.visits.all().some(({ visit }) => visit.phase !== 'kept');
  }

  get #isHandingOver(): boolean {
    const mode = this.#parts.mode();
    return mode?.handover === this.#parts.replicaId;
  }

  async #handOver(): Promise<void> {
    const whole = await this.#parts.wholeFiles();
    if (whole.length > 0) {
      this.#wholeSeenAt = this.#parts.clock.monotonic();
      for (const key of whole) this.#engine?.look(key);
      return;
    }
    const { store, replicaId, modeChanged } = this.#parts;
    modeChanged(await endHandover(store, replicaId, replicaId));
  }

  #lookAtWithheld(): void {
    const now = this.#parts.clock.monotonic();
    if (now - this.#withheldAt < IDLE_TICK_MS) return;
    this.#withheldAt = now;
    for (const key of this.#withheld) this.#engine?.look(key);
    this.#withheld.clear();
  }

  #startDue(): void {
    const { due, clock, visits, random } = this.#parts;
    const mode = this.#parts.mode();
    if (mode?.mode !== 'shared' || this.#parts.options.kind === 'peer') return;
    const now = clock.monotonic();
    const keys = new Set(due.due(clock.now()));
    for (const key of [...this.#starts.keys(), ...this.#obstacles.keys()]) if (!keys.has(key)) this.#settled(key);
    let crowd = visits.all().filter(({ visit }) => visit.phase !== 'quiet' && visit.phase !== 'kept').length + this.#turns.size;
    for (const key of keys) {
      this.#noteOverdue(key);
      if (now < (this.#notBefore.get(key) ?? -Infinity) || this.#turns.has(key) || !this.#mayBegin(visits.get(key))) continue;
      const start = this.#starts.get(key) ?? now + random() * LARGEST_DELAY_MS;
      this.#starts.set(key, start);
      if (start > now || crowd >= LARGEST_CROWD || mode.handover !== undefined || this.#isEnding || this.#engine?.isInSync() !== true)
        continue;
      crowd += 1;
      this.#starts.delete(key);
      this.#notBefore.set(key, now + LARGEST_DELAY_MS);
      if (!this.#parts.options.isRefresher) {
        this.#obstacles.set(key, 'this replica does not refresh (refresher: no)');
        continue;
      }
      this.#turns.add(key);
      this.#engine.look(key);
    }
  }

  #mayBegin(open: OpenVisit | undefined): boolean {
    return open === undefined || (open.visit.phase === 'quiet' && open.visit.tokens.some((token) => isNextIn(open.visit, token)));
  }

  /** It was refreshed, by whomever. */
  #settled(key: DocumentKey): void {
    this.#starts.delete(key);
    this.#notBefore.delete(key);
    this.#obstacles.delete(key);
    this.#holders.delete(key);
    this.#overdue.delete(key);
  }

  #noteOverdue(key: DocumentKey): void {
    const { due, clock, mode } = this.#parts;
    const dueAt = due.get(key)?.dueAt;
    if (dueAt === undefined || clock.now() - dueAt < OVERDUE_MS || this.#overdue.has(key)) return;
    this.#overdue.add(key);
    const handover = mode()?.handover;
    const because =
      handover !== undefined
        ? `the replica ${handover} was alone and has not handed over yet`
        : (this.#obstacles.get(key) ?? (this.#quiet.liveness === 'alive' ? 'no replica refreshed it' : 'CLIProxyAPI does not answer here'));
    this.#parts.emit({ type: 'overdue', key, because });
  }

  async #lookAtProxy(): Promise<void> {
    const asked = this.#parts.clock.monotonic();
    this.#quiet.noted(await this.#parts.proxy(), asked);
  }
}
