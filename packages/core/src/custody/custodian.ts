import { isCredentialKey, type DocumentKey, type RecordKey } from '../documents/document-key.js';
import type { CredentialDocument, Document } from '../documents/document.js';
import { expiryOf, isOtherAccount } from '../documents/grant.js';
import type { Hasher, TokenId } from '../documents/hasher.js';
import type { HostSections } from '../documents/host-sections.js';
import { Batcher } from '../engine/batcher.js';
import type { Observed } from '../engine/observer.js';
import { sealed, sealedLens, unsealedLens, untouchedLens, wakingLens, type Lens } from '../planning/lens.js';
import { isStale } from '../planning/lineage.js';
import type { BaseRecords } from '../ports/base-records.js';
import type { Clock, RandomSource } from '../ports/clock.js';
import type { Change, Entry, TokenStore } from '../ports/token-store.js';
import type { Workspace } from '../ports/workspace.js';
import { Asks } from './asks.js';
import { CredentialFiles } from './credential-files.js';
import { ClaimBook } from './claim-book.js';
import { claimKey, isHeld, readClaim, type Claim } from './claim.js';
import { isSameMode, joinCluster, MODE_KEY, parseMode, readMode, type ClusterMode } from './cluster-mode.js';
import type { CustodyEvent, CustodyReport } from './custody-events.js';
import { refuseUnclaimed } from './custody-off.js';
import type { CustodianOptions, Custody, CustodyEngine, Meeting } from './custody.js';
import { DueBook } from './due-book.js';
import { Healing } from './healing.js';
import type { ProviderPolicy } from './provider-policy.js';
import type { Liveness } from './quiet-clock.js';
import { Sight, type Look } from './sight.js';
import { Twins } from './twins.js';
import { VisitSchedule } from './visit-schedule.js';
import { Visits, type OpenVisit } from './visits.js';
import { isNextIn, type VisitJournal } from './visit.js';

export interface CustodianParts {
  readonly store: TokenStore;
  readonly workspace: Workspace;
  readonly bases: BaseRecords;
  readonly journal: VisitJournal;
  readonly hasher: Hasher;
  readonly hostSections: HostSections;
  readonly policy: ProviderPolicy;
  /** Of a workspace that may have every token. */
  readonly lens: Lens;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly replicaId: string;
  readonly maxDocumentBytes: number;
  /** A look at the proxy that reads this workspace. */
  readonly proxy: () => Promise<Liveness>;
  readonly options: CustodianOptions;
  readonly emit: (event: CustodyEvent) => void;
}

/** A claim that was taken so long ago may have been given up: the process was frozen meanwhile. */
const FRESH_CLAIM_MS = 30_000;

/** A new token in the file of a visit. Nobody else can know it before the store does, so it is claimed in the write that tells of it. */
interface Answer {
  readonly token: TokenId;
  readonly expires: number | undefined;
  readonly account: string;
  /** It was sent, with an outcome that is not known or was refused: now it is claimed first, by itself. */
  readonly isSent: boolean;
}

/**
 * Keeps the invariant: a replica holds the claim on a refresh token for as long as its proxy may know that token. What a visit goes through is told in `visit.ts`;
 * each step is taken inside a look of the engine at the document, so that no two steps of one document run at a time.
 */
export class Custodian implements Custody {
  readonly #parts: CustodianParts;
  readonly #sight: Sight;
  readonly #files: CredentialFiles;
  readonly #claims: ClaimBook;
  readonly #visits: Visits;
  readonly #due: DueBook;
  readonly #twins: Twins;
  readonly #schedule: VisitSchedule;
  readonly #asks: Asks;
  readonly #healing: Healing;
  readonly #sealing: Lens;
  /** Read together after a document was, before its token is shown. */
  readonly #confirmations: Batcher<TokenId, boolean>;
  readonly #told = new Map<DocumentKey, string>();
  /** Files with a token that was replaced: no document has it, so nobody can claim it, and nobody waits for it. */
  readonly #outdated = new Set<DocumentKey>();
  /** What the proxy answered in a visit, until the store has it. */
  readonly #answers = new Map<DocumentKey, Answer>();
  #mode: ClusterMode | undefined;
  #engine: CustodyEngine = { look: () => undefined, isInSync: () => false, background: () => undefined };

  constructor(parts: CustodianParts) {
    this.#parts = parts;
    const { store, replicaId, clock, policy } = parts;
    this.#sight = new Sight(parts);
    this.#files = new CredentialFiles({ ...parts, sight: this.#sight });
    this.#claims = new ClaimBook(store, replicaId, clock);
    this.#visits = new Visits({ ...parts, claims: this.#claims });
    this.#due = new DueBook(policy);
    this.#twins = new Twins({ ...parts, tokenOf: (document) => this.#sight.tokenOf(document) });
    this.#asks = new Asks(store, replicaId, parts.hasher);
    this.#healing = new Healing({ ...parts, asks: this.#asks, due: this.#due, engine: () => this.#engine });
    this.#sealing = sealedLens(parts.lens, policy);
    this.#schedule = new VisitSchedule({
      ...parts,
      visits: this.#visits,
      due: this.#due,
      mode: () => this.#mode,
      modeChanged: (mode) => {
        this.#noteMode(mode);
      },
      wholeFiles: () => this.#files.whole((key) => this.#visits.get(key) !== undefined || this.#outdated.has(key)),
    });
    this.#confirmations = new Batcher((tokens) => this.#confirm(tokens), 500);
  }

  get status(): CustodyReport {
    const { isRefresher } = this.#parts.options;
    const overdue = [...this.#schedule.overdue].map((key) => ({ key, because: this.#schedule.obstacle(key) }));
    const visits = this.#visits.all().map(({ visit: { key, phase, because, began } }) => ({ key, phase, because, began }));
    const { echoes, takenOver, liveness: proxy } = this.#schedule;
    const counts = { visits: this.#visits.counts, echoes, takenOver, healings: this.#healing.counts, wholeMs: this.#visits.wholeMs };
    const { abandoned, silentHolders } = this.#schedule;
    return { mode: this.#mode, isRefresher, proxy, visits, overdue, abandoned, silentHolders, diedAgain: this.#healing.diedAgain, counts };
  }

  /** The daemon is about to stop: open visits are not waited for any longer. */
  ending(): void {
    this.#schedule.end();
  }

  /** The process of the proxy is known to have ended: what it left is collected, and every claim let go. */
  proxyEnded(): void {
    this.#schedule.processEnded();
  }

  /** The proxy that reads this workspace uses a credential no more, for its provider refused the access token. */
  accessTokenDied(key: DocumentKey): void {
    const isShared = this.#mode?.mode === 'shared' && this.#parts.options.kind === 'replica';
    if (isShared && this.#engine.isInSync()) this.#engine.background(this.#healing.died(key));
  }

  /** True while a refresh token stands in the workspace for a visit, or with `thoroughly` as long as a claim is held. */
  isBusy(thoroughly: boolean): boolean {
    return this.#visits.all().some(({ visit: { phase } }) => phase !== 'kept' && (thoroughly || phase !== 'quiet'));
  }

  attach(engine: CustodyEngine): void {
    this.#engine = engine;
    this.#schedule.attach(engine);
  }

  /** To be called before anything is looked at, with the store in reach. @throws TokenmirrorError CUSTODY_REFUSED */
  async join(): Promise<readonly DocumentKey[]> {
    const { store, replicaId, options, journal } = this.#parts;
    if (options.kind === 'replica') {
      if ((await readMode(store)) === undefined) await refuseUnclaimed(store, replicaId);
      this.#noteMode(await joinCluster(store, replicaId, options));
    }
    if (this.#visits.all().length === 0) this.#visits.restore();
    if (journal.made === 'new') {
      for (const [token, claim] of await this.#claims.held()) {
        if (claim.replica === replicaId) await this.#visits.adopt(claim.document, claim.nonce, token);
      }
    }
    const otherwise = await this.#filesMadeOtherwise();
    this.#schedule.start();
    return otherwise;
  }

  /** A record changed in the store that may be of interest. */
  recordChanged(key: RecordKey): void {
    if (key === MODE_KEY && this.#parts.options.kind === 'replica') {
      this.#engine.background(
        readMode(this.#parts.store).then((mode) => {
          this.#noteMode(mode);
        }),
      );
    } else if (this.#asks.isAsk(key)) this.#engine.background(this.#hearAsk(key));
  }

  stop(): void {
    this.#schedule.stop();
  }

  lensFor(key: DocumentKey): Lens {
    const open = this.#visits.get(key);
    switch (open?.visit.phase) {
      case undefined:
        return this.#isAlone ? this.#parts.lens : this.#sealedOrWaking(key);
      case 'unsealing':
        return unsealedLens(this.#sealing, (stored) => this.#sight.tokenOf(stored) === open.visit.unsealed);
      case 'waiting':
        return untouchedLens(this.#sealing);
      case 'kept':
        return this.#parts.lens;
      case 'quiet':
        return this.#sealedOrWaking(key);
      case 'claiming':
      case 'sealing':
        return this.#sealing;
    }
  }

  #sealedOrWaking(key: DocumentKey): Lens {
    return this.#healing.isWaking(key) ? wakingLens(this.#sealing) : this.#sealing;
  }

  async prepare(key: DocumentKey): Promise<void> {
    const because = this.#schedule.takeTurn(key);
    if (because === undefined || !this.#mayVisit()) return;
    if (!(await this.#schedule.isProxyAlive())) {
      this.#schedule.cannot(key, 'CLIProxyAPI does not answer beside this replica');
      return;
    }
    const { store, clock } = this.#parts;
    const entry = (await store.read([key])).get(key);
    const stored = this.#sight.credentialIn(key, entry);
    const token = stored && this.#sight.tokenOf(stored);
    if (stored === undefined || token === undefined || entry === undefined) return;
    if (!this.#sight.isNewest(key, stored, entry.lineage)) {
      this.#schedule.cannot(key, 'the store went back to an older grant: log in again');
      return;
    }
    this.#note(key, stored);
    if (!this.#due.isDue(key, clock.now())) return;

    const before = this.#visits.get(key);
    let open: OpenVisit | undefined;
    if (before === undefined) {
      const taking = await this.#visits.claim(key, token, {
        because,
        phase: 'claiming',
        expires: expiryOf(stored.fields),
        account: this.#sight.accountOf(stored),
      });
      if (taking.status === 'spent') await this.#afterSpent(key, entry, taking.claim);
      if (taking.status === 'held') await this.#isHeld(key, token, taking.claim);
      if (taking.status !== 'taken') return;
      if (taking.from !== undefined) this.#schedule.tookOver(key, taking.from);
      open = this.#visits.get(key);
    } else if (before.visit.phase === 'quiet' && isNextIn(before.visit, token)) {
      open = await this.#visits.begin(before, because);
    }
    if (open === undefined) return;
    this.#noteMode(await readMode(store));
    if (this.#mayVisit()) await this.#visits.willUnseal(open, token);
    this.#schedule.hurry();
  }

  async meet(observed: Observed): Promise<Meeting> {
    const { key } = observed;
    if (!isCredentialKey(key)) return { goOn: observed };
    const look = this.#sight.look(observed);
    if (look.stored !== undefined) this.#note(key, look.stored);
    else this.#due.forget(key);
    let met: Observed = observed;
    if (look.file !== undefined && look.fileToken !== undefined && !(this.#isAlone && this.#visits.get(key) === undefined)) {
      const meeting = await this.#meetToken(look, look.file, look.fileToken);
      if ('verdict' in meeting) return meeting;
      met = meeting.goOn;
    }
    const open = this.#visits.get(key);
    const isDeleted = open === undefined ? false : await this.#advance(open, look);
    return { goOn: isDeleted ? { ...met, memory: { ...met.memory, isVisited: true } } : met };
  }

  async admit(observed: Observed, document: Document): Promise<readonly Change[]> {
    const { key } = observed;
    const token = this.#sight.tokenOf(document);
    const answer = this.#answers.get(key);
    if (answer !== undefined && answer.token !== token) await this.#claimAnswer(key, answer);
    const before = this.#visits.get(key);
    if (before === undefined || token === undefined) return [];
    const { stored, storedToken } = this.#sight.look(observed);
    if (token === storedToken || document.kind !== 'credential') return [];
    const isAnswer = answer?.token === token;
    const open = isAnswer ? this.#visits.answered(before, token, answer.account) : before;
    const isSuccessor = stored !== undefined && storedToken !== undefined && !isOtherAccount(stored.fields, document.fields);
    const old = isSuccessor ? [...open.visit.succeeded, storedToken] : open.visit.succeeded;
    const replaced = [...new Set(old)].filter((each) => each !== token);
    if (replaced.length === 0) {
      if (isAnswer) await this.#claimAnswer(key, answer);
      return [];
    }
    const grant = observed.remote.state === 'document' ? observed.remote.digest.fingerprint : undefined;
    await this.#visits.willReplace(open, replaced, grant);
    if (!isAnswer) return [];
    this.#answers.set(key, { ...answer, isSent: true });
    return this.#claims.succession(token, this.#visits.purposeOf(open, answer.expires), replaced);
  }

  async pushed(key: DocumentKey, document: Document): Promise<void> {
    const answer = this.#answers.get(key);
    this.#answers.delete(key);
    const open = this.#visits.get(key);
    if (open === undefined || document.kind !== 'credential') return;
    if (open.visit.replaced.length > 0) await this.#close(open, document, answer?.token);
    else if (open.visit.phase === 'waiting' && open.visit.because === 'found') await this.#visits.enter(open, 'sealing');
  }

  async show(key: DocumentKey, stored: Document, local: Document | undefined): Promise<Document> {
    const answer = this.#answers.get(key);
    if (answer !== undefined) await this.#claimAnswer(key, answer);
    const open = this.#visits.get(key);
    const shown = this.lensFor(key).present(stored, local);
    if (open?.visit.phase === 'unsealing') {
      const { clock } = this.#parts;
      const isFresh = clock.monotonic() - open.claimedAt < FRESH_CLAIM_MS && Math.abs(clock.now() - open.claimedOn) < FRESH_CLAIM_MS;
      if (!isFresh) return this.#sealing.present(stored, local);
      this.#visits.unsealed(key, true);
      return shown;
    }
    if (open?.visit.phase === 'waiting' && this.#sight.hasLost(stored, local)) {
      await this.#visits.enter(open, 'sealing');
      return this.#sealing.present(stored, local);
    }
    const token = this.#sight.tokenOf(shown);
    if (open?.visit.phase === 'kept' && token !== undefined && !open.visit.tokens.includes(token)) {
      await this.#visits.enter(open, 'sealing');
      return this.#sealing.present(stored, local);
    }
    if (open !== undefined || token === undefined || (local !== undefined && this.#sight.tokenOf(local) === token)) return shown;
    if (await this.#confirmations.add(token)) return shown;
    this.#schedule.withhold(key);
    return sealed(shown, this.#parts.policy);
  }

  shown(key: DocumentKey, isWritten: boolean): void {
    const open = this.#visits.get(key);
    if (open === undefined) return;
    if (!isWritten && open.visit.phase === 'waiting' && open.visit.because !== 'found') this.#visits.unsealed(key, false);
    if (isWritten && open.visit.phase === 'sealing') this.#engine.look(key);
  }

  /** A token that stands in the workspace is known to the proxy: it has to be ours. */
  async #meetToken(look: Look, file: CredentialDocument, token: TokenId): Promise<Meeting> {
    const { key, observed, stored, storedToken, lineage } = look;
    const goOn: Meeting = { goOn: observed };
    const open = this.#visits.get(key);
    const isOld = isStale(this.#sight.fingerprintOf(file), lineage);
    if (isOld && token !== storedToken) this.#outdated.add(key);
    else this.#outdated.delete(key);
    if (open?.visit.tokens.includes(token) === true || isOld) {
      if (open?.visit.phase === 'quiet') {
        this.#schedule.echoed();
        await this.#visits.enter(open, 'sealing');
      }
      return goOn;
    }
    const isKept = this.#parts.policy.sharingOf(file.fields) === 'unknown';
    const handover = this.#mode?.handover;
    const isCovered = handover !== undefined && token === storedToken && !(isKept && handover === this.#parts.replicaId);
    if (isCovered) {
      if (handover === this.#parts.replicaId) this.#schedule.sawWhole();
      else this.#tell({ type: 'token-held', key, replica: handover });
      return goOn;
    }
    const expires = expiryOf(file.fields);
    const account = this.#sight.accountOf(file);
    const wasSent = this.#answers.get(key)?.token === token && this.#answers.get(key)?.isSent === true;
    if (!isKept && !wasSent && this.#isAnswer(look, file)) {
      this.#answers.set(key, { token, expires, account, isSent: false });
      return goOn;
    }
    this.#answers.delete(key);
    const how = {
      because: 'found',
      phase: isKept ? 'kept' : 'waiting',
      expires,
      account,
      isNew: token !== storedToken,
    } as const;
    const taking = await this.#visits.claim(key, token, how);
    if (taking.status === 'taken') {
      this.#schedule.hurry();
      return goOn;
    }
    if (taking.status === 'spent') {
      this.#tell({ type: 'token-spent', key });
      return stored === undefined ? { verdict: 'failed' } : { goOn: this.#sight.withoutGrant(observed, stored) };
    }
    if (taking.claim.replica === this.#parts.replicaId) {
      await this.#schedule.join(taking.claim.document);
      return goOn;
    }
    this.#tell({ type: 'token-held', key, replica: taking.claim.replica });
    return token === storedToken ? goOn : { verdict: 'failed' };
  }

  /** True for what the proxy made of the token that this visit unsealed, and the store still has. */
  #isAnswer({ key, observed, stored, storedToken }: Look, file: CredentialDocument): boolean {
    const visit = this.#visits.get(key)?.visit;
    const isAwaited =
      visit?.phase === 'waiting' && visit.because !== 'found' && storedToken !== undefined && visit.unsealed === storedToken;
    return isAwaited && observed.remote.state === 'document' && stored !== undefined && !isOtherAccount(stored.fields, file.fields);
  }

  /** What was answered does not become the document: it is claimed all the same, for the proxy knows it. */
  async #claimAnswer(key: DocumentKey, { token, expires, account }: Answer): Promise<void> {
    this.#answers.delete(key);
    if (this.#visits.get(key) !== undefined)
      await this.#visits.claim(key, token, { because: 'found', phase: 'waiting', expires, account, isNew: true });
  }

  /** Takes the visit one step further by what is seen. Returns whether a deletion is older than the answer that was waited for. */
  async #advance(before: OpenVisit, look: Look): Promise<boolean> {
    const { key, observed, stored, storedToken, file, fileToken } = look;
    const { clock } = this.#parts;
    const { replaced } = before.visit;
    if (replaced.length > 0 && stored !== undefined && storedToken !== undefined && !replaced.includes(storedToken))
      await this.#close(before, stored);
    const open = this.#visits.get(key);
    if (open === undefined) return false;
    const isDeleted = observed.remote.state === 'deleted';
    switch (open.visit.phase) {
      case 'claiming':
        await this.#visits.release(open, 'let go');
        return false;
      case 'unsealing':
        if (storedToken !== open.visit.unsealed || file === undefined || clock.monotonic() - open.claimedAt > FRESH_CLAIM_MS) {
          await this.#visits.release(open, 'let go');
        }
        return false;
      case 'waiting': {
        if (fileToken === undefined) {
          await this.#visits.sealed(open, open.visit.because === 'found' ? open.outcome : 'echoed');
          return open.isDeleted;
        }
        if (isDeleted && open.visit.because !== 'found') {
          await this.#visits.enter(open, 'sealing', { isDeleted: true });
          return true;
        }
        const isNew = file !== undefined && this.#sight.fingerprintOf(file) !== (stored && this.#sight.fingerprintOf(stored));
        const isOver = open.visit.because === 'found' || this.#schedule.isEnding || clock.monotonic() >= open.waitsUntil;
        if (isNew || !isOver) return false;
        if (open.visit.because !== 'found') this.#schedule.failed(key, this.#due.get(key)?.grant);
        await this.#visits.enter(open, 'sealing', open.visit.because === 'found' ? {} : { outcome: 'no answer' });
        return false;
      }
      case 'sealing':
        if (fileToken === undefined) await this.#visits.sealed(open);
        return open.isDeleted;
      case 'quiet':
        if (fileToken === undefined && open.sealedAt !== undefined && this.#schedule.isQuiet(open.sealedAt))
          await this.#visits.release(open);
        return open.isDeleted;
      case 'kept':
        if (fileToken === undefined) await this.#visits.sealed(open);
        return false;
    }
  }

  async #close(open: OpenVisit, document: CredentialDocument, claimed?: TokenId): Promise<void> {
    const { replaced, replacedGrant, key } = open.visit;
    const written = await this.#twins.give(key, document, replaced, replacedGrant);
    for (const twin of written) this.#engine.look(twin);
    await this.#visits.closeReplaced(open, claimed);
  }

  /** Somebody may know the token: this replica too, if its journal was lost, or its claim came back with a store that was restored. */
  async #isHeld(key: DocumentKey, token: TokenId, claim: Claim): Promise<void> {
    const isOrphan = claim.replica === this.#parts.replicaId && this.#visits.get(claim.document)?.visit.nonce !== claim.nonce;
    if (isOrphan) await this.#visits.adopt(claim.document, claim.nonce, token);
    else this.#schedule.isHeld(key, claim);
  }

  /** A document whose token was used in the visit of another one: the same account under two names. */
  async #afterSpent(key: DocumentKey, entry: Entry, { document }: Claim): Promise<void> {
    const isHelped = document !== key && (await this.#twins.takeFrom(document, key, entry));
    if (isHelped) this.#engine.look(key);
    else this.#schedule.cannot(key, 'its refresh token was used already: log in again');
  }

  /** For tokens that this replica does not know yet: nobody else holds them, and it was still alone after they were read. */
  async #confirm(tokens: readonly TokenId[]): Promise<readonly boolean[]> {
    const { store, replicaId } = this.#parts;
    const found = await store.read([MODE_KEY, ...tokens.map(claimKey)]);
    const entry = found.get(MODE_KEY);
    this.#noteMode(entry?.state === 'live' ? parseMode(entry.content) : undefined);
    return tokens.map((token) => {
      const record = found.get(claimKey(token));
      const claim = record?.state === 'live' ? readClaim(record.content, claimKey(token)) : undefined;
      return this.#isAlone && (claim === undefined || !isHeld(claim) || claim.replica === replicaId);
    });
  }

  /** Says what goes on once, until it is something else. */
  #tell(event: Extract<CustodyEvent, { type: 'token-held' | 'token-spent' }>): void {
    const said = JSON.stringify(event);
    if (this.#told.get(event.key) === said) return;
    this.#told.set(event.key, said);
    this.#parts.emit(event);
  }

  #noteMode(mode: ClusterMode | undefined): void {
    if (mode === undefined || isSameMode(mode, this.#mode)) return;
    const isFirst = this.#mode === undefined;
    this.#mode = mode;
    this.#parts.emit({ type: 'custody-mode', mode });
    this.#schedule.sawWhole();
    if (isFirst) return;
    this.#engine.background(this.#filesMadeOtherwise().then(() => undefined));
    for (const key of this.#parts.bases.keys()) if (isCredentialKey(key)) this.#engine.look(key);
  }

  /** The files that are whole and should be sealed, or the reverse, because the cluster changed while nobody was here. */
  async #filesMadeOtherwise(): Promise<readonly DocumentKey[]> {
    const { journal } = this.#parts;
    const made = this.#isAlone ? 'whole' : 'sealed';
    const files =
      made === 'sealed' || journal.made !== made
        ? await this.#files.read((key, document) => {
            this.#learn(key, document);
          })
        : [];
    const otherwise = files.filter(({ isWhole }) => isWhole !== (made === 'whole'));
    if (otherwise.length === 0 || made === 'sealed') await journal.note(made);
    return otherwise.map(({ key }) => key);
  }

  /** From a file, where the store has not told yet. */
  #learn(key: DocumentKey, document: CredentialDocument): void {
    if (this.#due.get(key) === undefined) this.#note(key, document);
  }

  async #hearAsk(key: RecordKey): Promise<void> {
    const ask = await this.#asks.read(key);
    if (ask === undefined) return;
    this.#due.ask(ask.document, ask.grant);
    this.#schedule.hurry();
  }

  get #isAlone(): boolean {
    const { replicaId, options } = this.#parts;
    return (
      this.#mode?.mode === 'alone' && this.#mode.replica === replicaId && this.#mode.handover === undefined && options.kind === 'replica'
    );
  }

  #mayVisit(): boolean {
    const { kind, isRefresher } = this.#parts.options;
    const isShared = this.#mode?.mode === 'shared' && this.#mode.handover === undefined;
    return kind === 'replica' && isRefresher && isShared && this.#engine.isInSync();
  }

  #note(key: DocumentKey, { fields, ...rest }: CredentialDocument): void {
    const grant = this.#sight.fingerprintOf({ fields, ...rest });
    if (this.#due.note(key, fields, grant)) this.#schedule.replan();
    this.#healing.saw(key, grant);
  }
}
