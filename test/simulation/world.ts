import {
  dismissHolder,
  Hasher,
  makeAlone,
  readDocument,
  shareAgain,
  type CustodyEvent,
  type DocumentKey,
  type EngineEvent,
  type RecordKey,
  type TokenStore,
} from '@tokenmirror/core';
import type { Flavour } from '@tokenmirror/testkit';
import { CLUSTER_KEY, SEALED, SimHost } from './sim-host.js';
import { SimProvider, type Presentation } from './sim-provider.js';
import { EPOCH, SimServer } from './sim-store.js';
import { randomFrom, SimProcess, VirtualTime } from './virtual-time.js';

/** Why a token was presented twice although every rule was kept. Detected by the model, never by hand. */
export type Cause =
  | 'the answer was lost'
  | 'a lone proxy had it in two files'
  | 'a replica vanished'
  | 'an old copy was put in'
  | 'the store went back in time';

export interface Failure {
  readonly at: number;
  readonly what: string;
}

export interface WorldOptions {
  readonly seed: number;
  readonly custody: 'auto' | 'on';
  readonly flavour: Flavour;
  /** Prints what happens. */
  readonly trace?: ((line: string) => void) | undefined;
}

type Fields = Record<string, unknown>;

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
const LEAD_S = 4 * 3600 + 600;

/** Everything that is simulated, and what must be true of it. */
export class World {
  readonly time = new VirtualTime();
  readonly random: () => number;
  readonly options: WorldOptions;
  readonly server: SimServer;
  readonly provider: SimProvider;
  readonly hosts: SimHost[] = [];
  readonly failures: Failure[] = [];
  readonly causes = new Map<Cause, number>();
  /** Credentials that one of these causes may have killed. */
  readonly excused = new Set<string>();
  /** Why a token was presented twice for the first time; every later time follows from it. */
  readonly #causes = new Map<string, Cause>();
  readonly events = new Map<string, number>();
  readonly answers = new Map<number, number>();
  /** The last value of a note that a person gave, by path, and when. */
  readonly notes = new Map<string, { readonly value: string; readonly at: number; readonly isCertain: boolean; readonly host: SimHost }>();
  readonly deleted = new Map<string, number>();
  /** Where a person put a copy, which may be older than a deletion. */
  readonly copiedIn = new Set<string>();
  /** Tokens that a person copied about. */
  readonly copied = new Set<string>();
  readonly takenOver = new Set<string>();
  readonly logins: { readonly path: string; readonly text: string }[] = [];
  restoredAt: number | undefined;
  #serial = 0;

  constructor(options: WorldOptions) {
    this.options = options;
    this.random = randomFrom(options.seed);
    this.server = new SimServer(this.time, this.random);
    this.provider = new SimProvider(this.time, this.random, (presentation) => {
      this.#judge(presentation);
    });
    this.liveFor(10 * MINUTE);
    if (options.trace !== undefined) {
      this.server.wrote = (key, content, author) => {
        this.say(`${author} writes ${key}: ${shown(content)}`);
      };
    }
  }

  /** For how long a fresh grant is left alone by custody. */
  liveFor(ms: number): void {
    this.provider.provider.lifetimes.claude = LEAD_S + Math.round(ms / 1000);
  }

  addHost(more: Partial<Pick<SimHost['parts'], 'isRefresher' | 'skewMs' | 'custody'>> = {}): SimHost {
    const { time, random, server, provider } = this;
    const host = new SimHost({
      name: `R${String(this.hosts.length + 1)}`,
      time,
      random,
      server,
      provider,
      flavour: this.options.flavour,
      custody: this.options.custody,
      isRefresher: true,
      skewMs: 0,
      ...more,
      emit: (which, event) => {
        this.#heard(which, event);
      },
      failed: (which, error) => {
        this.fail(`the daemon of ${which.name} ended: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
      },
    });
    this.hosts.push(host);
    return host;
  }

  start(host: SimHost): void {
    host.startDaemon();
    host.startProxy();
  }

  say(line: string): void {
    this.options.trace?.(`${(this.time.now / 1000).toFixed(3).padStart(10)} ${line}`);
  }

  fail(what: string): void {
    if (this.failures.some((failure) => failure.what === what)) return;
    this.say(`FAILURE ${what}`);
    this.failures.push({ at: this.time.now, what });
  }

  /** Runs for a while, with every invariant watched. */
  async run(ms: number): Promise<void> {
    await this.time.runUntil(this.time.now + ms, () => {
      this.#watch();
    });
  }

  /** A fresh login, as CLIProxyAPI writes it. */
  login(host: SimHost, path: string, more: Fields = {}): void {
    const email = `${path.replace('.json', '')}@example.com`;
    const { access_token, refresh_token, expires_in } = this.provider.provider.issue('claude', email);
    const instant = (ms: number): string => new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
    const now = host.disk.now;
    const fields = {
      access_token,
      disabled: false,
      email,
      expired: instant(now + expires_in * 1000),
      last_refresh: instant(now),
      refresh_token,
      type: 'claude',
    };
    this.say(`${host.name} logs in ${path} (${refresh_token})`);
    this.deleted.delete(path);
    this.notes.delete(path);
    const text = JSON.stringify({ ...fields, ...more });
    this.logins.push({ path, text });
    host.disk.put(path, text);
  }

  /** A copy of a login that somebody kept, or made under a second name. */
  copyIn(host: SimHost, path: string, text: string): void {
    const { refresh_token: token } = JSON.parse(text) as { refresh_token: string };
    this.copiedIn.add(path);
    this.copied.add(token);
    this.say(`${host.name} gets a copy as ${path} (${token})`);
    this.deleted.delete(path);
    this.notes.delete(path);
    host.disk.put(path, text);
  }

  edit(host: SimHost, path: string): void {
    const value = `note-${String((this.#serial += 1))}`;
    const before = this.notes.get(path);
    let shown: unknown;
    const isEdited = host.edit(path, (fields) => {
      shown = fields['note'];
      return { ...fields, note: value };
    });
    if (!isEdited) return;
    this.say(`${host.name} edits ${path}: ${value}`);
    // Who edits what another has edited meanwhile may lose: then the value is in the history.
    const isCertain = shown === before?.value && this.stored(path)?.['note'] === before?.value;
    this.notes.set(path, { value, at: this.time.now, isCertain, host });
  }

  deleteFile(host: SimHost, path: string): void {
    if (host.disk.read(path) === undefined) return;
    this.say(`${host.name} deletes ${path}`);
    host.disk.remove(path);
    this.deleted.set(path, this.time.now);
    this.notes.delete(path);
  }

  /** What a crash, a full disk or a hand makes of a file that holds nothing of its own. */
  garble(host: SimHost, path: string): void {
    const text = host.disk.read(path);
    const stored = this.stored(path);
    if (text === undefined || stored === undefined) return;
    let fields: Fields;
    try {
      fields = JSON.parse(text) as Fields;
    } catch {
      return;
    }
    if (fields['refresh_token'] !== undefined || fields['access_token'] !== stored['access_token'] || fields['note'] !== stored['note'])
      return;
    const garbled = ['', '{}', JSON.stringify({ ...fields, access_token: '' })];
    this.say(`${host.name} garbles ${path}`);
    host.disk.put(path, garbled[Math.floor(this.random() * garbled.length)] ?? '');
  }

  /** One replica is to hold every token, by command. */
  eject(host: SimHost): void {
    this.say(`${host.name} is to be alone`);
    this.#command(async (store) => {
      await makeAlone(store, 'a command', host.name);
    });
  }

  /** Ends what `eject` did, by command; a replica that is gone is dismissed. */
  share(): void {
    this.say('all are to share');
    this.#command(async (store) => {
      if (this.mode?.mode === 'alone') await shareAgain(store, 'a command');
      const { replica, handover } = this.mode ?? {};
      for (const gone of [replica, handover])
        if (gone !== undefined && !this.living.some(({ name }) => name === gone)) await dismissHolder(store, 'a command', gone);
    });
  }

  /** From a machine that nothing is wrong with; where the store is down, the command fails. */
  #command(run: (store: TokenStore) => Promise<void>): void {
    const process = new SimProcess(this.time, () => EPOCH);
    const store = this.server.connect(process, { isCut: false, lostRequests: 0, lostReplies: 0 });
    run(store).catch((error: unknown) => {
      this.say(String(error));
    });
  }

  async clientAsks(host: SimHost): Promise<void> {
    const status = await host.ask();
    if (status !== undefined) this.answers.set(status, (this.answers.get(status) ?? 0) + 1);
  }

  stored(path: string): Fields | undefined {
    const content = this.server.content(`auths/${path}` as DocumentKey);
    return content === undefined ? undefined : (JSON.parse(content) as Fields);
  }

  get paths(): string[] {
    return [...this.server.state.rows.keys()].filter((key) => key.startsWith('auths/')).map((key) => key.slice('auths/'.length));
  }

  /** Claims that somebody holds. */
  get heldClaims(): { readonly key: string; readonly replica: string; readonly state: string; readonly document: string }[] {
    return [...this.server.state.rows].flatMap(([key, { content }]) => {
      if (!key.startsWith('claims/') || content === null) return [];
      const claim = JSON.parse(content) as { replica: string; state: string; document: string };
      return claim.state === 'open' || claim.state === 'sealed' ? [{ key, ...claim }] : [];
    });
  }

  get mode(): { readonly mode: string; readonly replica?: string; readonly handover?: string } | undefined {
    const content = this.server.content('custody/mode' as RecordKey);
    return content === undefined ? undefined : (JSON.parse(content) as { mode: string });
  }

  /** Which hosts' living proxies know each refresh token, in memory or on its way. */
  knowers(): Map<string, Set<SimHost>> {
    const known = new Map<string, Set<SimHost>>();
    const note = (token: string, host: SimHost): void => {
      if (token === '') return;
      known.set(token, (known.get(token) ?? new Set()).add(host));
    };
    for (const host of this.hosts) {
      if (host.proxy === undefined) continue;
      for (const { fields } of host.proxy.program.credentials)
        if (typeof fields['refresh_token'] === 'string') note(fields['refresh_token'], host);
      for (const [{ token, host: name }, process] of this.provider.inFlight) {
        if (name === host.name && process === host.proxy.process) note(token, host);
      }
    }
    return known;
  }

  #watch(): void {
    for (const [token, hosts] of this.knowers()) {
      if (hosts.size < 2 || this.copied.has(token) || !this.provider.provider.isCurrent(token) || this.restoredAt !== undefined) continue;
      if ([...hosts].some(({ name }) => this.takenOver.has(`${this.pathOf(token)} ${name}`))) continue;
      this.fail(`the proxies of ${[...hosts].map(({ name }) => name).join(' and ')} know one living refresh token (${token})`);
    }
  }

  #judge(again: Presentation): void {
    const first = this.provider.presented.find(({ token, issued }) => token === again.token && issued !== undefined);
    const cause = this.#causes.get(again.token) ?? this.#causeOf(first, again);
    if (cause === undefined) {
      this.fail(
        `${again.host} presented ${again.token} again, which ${first === undefined ? 'nobody' : `${first.host} (run ${String(first.run)}) at ${(first.at / 1000).toFixed(3)}`} had used`,
      );
    } else {
      this.causes.set(cause, (this.causes.get(cause) ?? 0) + 1);
      this.#causes.set(again.token, cause);
      this.excused.add(this.pathOf(again.token));
    }
    this.say(`reuse of ${again.token} by ${again.host}: ${cause ?? 'no cause'}`);
  }

  #causeOf(first: Presentation | undefined, again: Presentation): Cause | undefined {
    // A copy that a person puts over a file may take the only new grant with it.
    if (this.copied.has(again.token) || this.copiedIn.has(this.pathOf(again.token))) return 'an old copy was put in';
    if (first?.host === again.host && first.files > 1 && this.mode?.mode === 'alone' && this.mode.replica === again.host)
      return 'a lone proxy had it in two files';
    if (first !== undefined && !first.isAnswered) return 'the answer was lost';
    if (first !== undefined && this.provider.unwritten.has(first)) return 'the answer was lost';
    if (this.restoredAt !== undefined && first !== undefined && first.at < this.restoredAt) return 'the store went back in time';
    if (first !== undefined && this.takenOver.has(`${this.pathOf(again.token)} ${first.host}`)) return 'a replica vanished';
    return undefined;
  }

  pathOf(token: string): string {
    return `${this.provider.provider.emailOf(token)?.replace('@example.com', '') ?? '?'}.json`;
  }

  #heard(host: SimHost, event: EngineEvent | CustodyEvent): void {
    this.events.set(event.type, (this.events.get(event.type) ?? 0) + 1);
    if (event.type === 'visit-ended') this.events.set(`visit ${event.outcome}`, (this.events.get(`visit ${event.outcome}`) ?? 0) + 1);
    if (event.type === 'claim-taken-over') this.takenOver.add(`${event.key.slice('auths/'.length)} ${event.replica}`);
    if (this.options.trace !== undefined) this.say(`${host.name} ${JSON.stringify(event)}`);
  }

  /** What must be so once everything is well and quiet. */
  checkRest(): void {
    const { provider } = this.provider;
    for (const path of this.paths) {
      const stored = this.stored(path);
      const token = String(stored?.['refresh_token']);
      const isDead = this.isDead(path);
      if (stored === undefined) {
        if (this.copiedIn.has(path)) continue;
        for (const host of this.living)
          if (host.disk.read(path) !== undefined && !host.hasLostState && host.daemon?.engine.status.frozenDeletions.length === 0)
            this.fail(`${path} was deleted and stands at ${host.name}`);
        continue;
      }
      const text = this.server.content(`auths/${path}` as DocumentKey) ?? '';
      const reading = readDocument(`auths/${path}` as DocumentKey, text);
      const { mode, replica } = this.mode ?? {};
      for (const host of isDead ? [] : this.living) {
        const isWhole = mode === 'alone' && replica === host.name;
        const expected =
          reading.state === 'document' ? (isWhole ? reading.document : SEALED.present(reading.document, undefined)) : undefined;
        const found = host.disk.read(path);
        const isSame =
          found !== undefined && expected?.kind === 'credential' && canonical(JSON.parse(found)) === canonical(expected.fields);
        if (!isSame) this.fail(`${path} at ${host.name} is not as the store has it: ${found ?? 'absent'} / ${text}`);
      }
      const isExcused = this.excused.has(emailPath(stored)) || this.restoredAt !== undefined;
      if (isDead && !isExcused) this.fail(`${path} is dead without a cause`);
      if (!isDead && !provider.isCurrent(token) && !isExcused) this.fail(`the store has no living refresh token for ${path}`);
      if (!isDead && !isExcused && Date.parse(String(stored['expired'])) < this.server.now)
        this.fail(`${path} was not refreshed: it ended ${String(stored['expired'])}`);
      const note = this.notes.get(path);
      if (
        note?.isCertain === true &&
        note.host.isUp &&
        !note.host.hasLostState &&
        this.restoredAt === undefined &&
        stored['note'] !== note.value
      )
        this.fail(`the note of ${path} is ${String(stored['note'])}, not ${note.value}`);
    }
    const vanished = new Set(this.hosts.filter(({ isUp }) => !isUp).map(({ name }) => name));
    // A daemon that thawed after another one took its place may have written over the journal of that one.
    const forgetful = new Set(this.hosts.filter(({ wasOvertaken }) => wasOvertaken).map(({ name }) => name));
    for (const claim of this.heldClaims) {
      // A claim that came back with a restored store is taken over by whoever needs it.
      if (claim.state === 'sealed' && forgetful.has(claim.replica)) continue;
      if (this.restoredAt === undefined && !vanished.has(claim.replica) && !this.isDead(claim.document.slice('auths/'.length)))
        this.fail(`a claim is still held: ${JSON.stringify(claim)}`);
    }
    if (this.mode?.handover !== undefined && !vanished.has(this.mode.handover)) this.fail(`${this.mode.handover} did not hand over`);
  }

  /** True for a credential that the provider refuses for good; it is tried again now and then. */
  isDead(path: string): boolean {
    return this.provider.provider.isRevoked(String(this.stored(path)?.['refresh_token']));
  }

  get living(): SimHost[] {
    return this.hosts.filter(({ isUp }) => isUp);
  }
}

/** A document with the claim's name of its refresh token; a record as it is. */
function shown(content: string | null): string {
  const fields = JSON.parse(content ?? 'null') as Fields | null;
  const token = fields?.['refresh_token'];
  return typeof token === 'string' ? `${token} = claims/${new Hasher(CLUSTER_KEY).tokenId(token)}` : JSON.stringify(fields);
}

function emailPath({ email }: Fields): string {
  return `${String(email).replace('@example.com', '')}.json`;
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
