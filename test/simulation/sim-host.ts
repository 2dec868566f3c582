import {
  Custodian,
  DEFAULT_POLICY,
  Engine,
  Hasher,
  readDocumentKey,
  sealedLens,
  TokenmirrorError,
  workspaceLens,
  type Base,
  type BaseRecords,
  type CustodyEvent,
  type DocumentKey,
  type EngineEvent,
  type Liveness,
  type Visit,
  type VisitJournal,
} from '@tokenmirror/core';
import { readFailure } from '@tokenmirror/cliproxy-client';
import { CliProxy, Measured, type Flavour } from '@tokenmirror/testkit';
import { diskOf, SimDisk } from './sim-disk.js';
import { EPOCH, type SimServer, type Weather } from './sim-store.js';
import type { SimProvider } from './sim-provider.js';
import { SimWorkspace } from './sim-workspace.js';
import { SimProcess, type VirtualTime } from './virtual-time.js';

export interface HostParts {
  readonly name: string;
  readonly time: VirtualTime;
  readonly random: () => number;
  readonly server: SimServer;
  readonly provider: SimProvider;
  readonly flavour: Flavour;
  readonly custody: 'auto' | 'on';
  readonly isRefresher: boolean;
  readonly skewMs: number;
  readonly emit: (host: SimHost, event: EngineEvent | CustodyEvent) => void;
  /** Told of an error that ended a daemon. */
  readonly failed: (host: SimHost, error: unknown) => void;
}

interface Daemon {
  readonly process: SimProcess;
  readonly engine: Engine;
  readonly custodian: Custodian;
  isStopping: boolean;
}

/** How long a daemon that thaws goes on before it sees that its lock is gone, at most, in ms. */
const SEES_LOCK_MS = 20;
const RESTART_MS = 5000;

export const CLUSTER_KEY = 'simulated-key';
const NO_HOST_SECTIONS: ReadonlySet<string> = new Set();

/** One machine: a disk, and the two programs on it. */
export class SimHost {
  readonly parts: HostParts;
  readonly disk: SimDisk;
  readonly weather: Weather = { isCut: false, lostRequests: 0, lostReplies: 0 };
  readonly #bases = new Map<DocumentKey, Base>();
  readonly #visits = new Map<DocumentKey, Visit>();
  #made: VisitJournal['made'] = 'new';
  daemon: Daemon | undefined;
  /** Daemons that were frozen until another one took their lock, and go on when they thaw. */
  readonly #overtaken = new Set<Daemon>();
  proxy: { readonly process: SimProcess; readonly program: CliProxy; readonly run: number } | undefined;
  /** Gone for good, with its disk. */
  isVanished = false;
  hasLeft = false;
  hasLostState = false;
  wasOvertaken = false;
  #runs = 0;

  constructor(parts: HostParts) {
    this.parts = parts;
    this.disk = new SimDisk(parts.time, parts.random, () => this.epoch);
  }

  get name(): string {
    return this.parts.name;
  }

  get epoch(): number {
    return EPOCH + this.parts.skewMs;
  }

  get isUp(): boolean {
    return !this.isVanished && !this.hasLeft;
  }

  startDaemon(): void {
    if (this.daemon !== undefined) return;
    const { time, random, server, custody, isRefresher, emit } = this.parts;
    const process = new SimProcess(time, () => this.epoch);
    const store = server.connect(process, this.weather);
    const workspace = new SimWorkspace(this.disk, process, random);
    const bases = this.#basesOf(process);
    const hasher = new Hasher(CLUSTER_KEY);
    const common = { store, workspace, bases, hasher, clock: process.clock, random, replicaId: this.name };
    const custodian = new Custodian({
      ...common,
      journal: this.#journalOf(process),
      hostSections: NO_HOST_SECTIONS,
      policy: DEFAULT_POLICY,
      lens: workspaceLens(NO_HOST_SECTIONS),
      maxDocumentBytes: 1 << 20,
      proxy: () => this.#liveness(process),
      options: { kind: 'replica', setting: custody, mayShare: true, isRefresher },
      emit: (event) => {
        emit(this, event);
      },
    });
    const engine = new Engine(
      {
        ...common,
        cluster: { id: 'simulated', key: CLUSTER_KEY },
        custody: custodian,
        emit: (event) => {
          emit(this, event);
        },
      },
      { hostSections: NO_HOST_SECTIONS, maxDocumentBytes: 1 << 20, pollMs: 10_000, sweepMs: 30_000, echoMs: 5000, force: false },
    );
    this.daemon = { process, engine, custodian, isStopping: false };
    const notes = { host: this.name, custody, isRefresher };
    engine
      .run({ id: `${this.name}-${String(random())}`, notes }, () => undefined)
      .catch((error: unknown) => {
        if (process.isDead || this.daemon?.process !== process) return;
        if (error instanceof TokenmirrorError && error.code === 'REPLICA_DUPLICATE') this.#restart();
        else this.parts.failed(this, error);
      });
  }

  /** As a supervisor does. */
  #restart(): void {
    this.killDaemon();
    this.parts.time.after(RESTART_MS, () => {
      if (this.isUp) this.startDaemon();
    });
  }

  killDaemon(): void {
    this.daemon?.process.kill();
    this.daemon = undefined;
  }

  /** A second daemon takes the lock of one that is frozen. */
  overtakeDaemon(): void {
    if (this.daemon === undefined) return;
    this.#overtaken.add(this.daemon);
    this.wasOvertaken = true;
    this.daemon = undefined;
    this.startDaemon();
  }

  thawDaemon(daemon: Daemon): void {
    daemon.process.thaw();
    if (!this.#overtaken.delete(daemon)) return;
    const { time, random } = this.parts;
    time.after(random() * SEES_LOCK_MS, () => {
      void daemon.engine.stop().then(() => {
        daemon.process.kill();
      });
    });
  }

  /** Everything goes on that was frozen. */
  thaw(): void {
    for (const daemon of this.#overtaken) this.thawDaemon(daemon);
    for (const each of [this.daemon, this.proxy]) if (each?.process.isFrozen === true) each.process.thaw();
  }

  vanish(): void {
    this.killDaemon();
    this.killProxy();
    for (const { process } of this.#overtaken) process.kill();
    this.isVanished = true;
  }

  async stopDaemon(): Promise<void> {
    const { daemon } = this;
    if (daemon === undefined) return;
    daemon.isStopping = true;
    await daemon.engine.stop();
    daemon.process.kill();
    if (this.daemon === daemon) this.daemon = undefined;
  }

  startProxy(): void {
    if (this.proxy !== undefined) return;
    const { time, random, provider, flavour } = this.parts;
    const process = new SimProcess(time, () => this.epoch);
    const run = (this.#runs += 1);
    const program = new CliProxy({
      disk: diskOf(this.disk, process),
      network: provider.networkOf(this, process),
      clock: process.clock,
      chance: { reloadDelayMs: () => 3 + random() * 5, id: () => `device-${String(random()).slice(2, 10)}` },
      measured: new Measured(flavour),
    });
    this.proxy = { process, program, run };
    void program.start();
    const push = (text: string): void => {
      if (!process.isFrozen && this.proxy?.process === process) this.#hear(text);
    };
    void program.command(['SUBSCRIBE', 'errors'], { isAuthenticated: true, address: '127.0.0.1', push });
  }

  /** What the daemon's subscription would bring. */
  #hear(text: string): void {
    const failure = readFailure(text.slice(text.indexOf('{'), text.lastIndexOf('}') + 1));
    const { daemon } = this;
    if (failure?.status !== 401 || daemon === undefined || daemon.process.isFrozen) return;
    const reading = readDocumentKey(`auths/${failure.path}`);
    if (reading.ok) daemon.custodian.accessTokenDied(reading.key);
  }

  killProxy(): void {
    this.parts.provider.proxyDied(this);
    this.proxy?.process.kill();
    this.proxy = undefined;
  }

  /** A request of a client. Answers its status, or nothing when no proxy is there to answer. */
  async ask(): Promise<number | undefined> {
    const { proxy } = this;
    if (proxy === undefined || proxy.process.isFrozen) return undefined;
    const answer = await proxy.program.answer({
      method: 'POST',
      path: '/v1/messages',
      query: new URLSearchParams(),
      headers: { 'x-api-key': 'sk-client' },
      address: '127.0.0.1',
      body: JSON.stringify({ model: 'claude-sonnet', messages: [] }),
    });
    return answer.status;
  }

  /** What a person does to a file: all at once, as an editor does. */
  edit(path: string, change: (fields: Record<string, unknown>) => Record<string, unknown>): boolean {
    const text = this.disk.read(path);
    try {
      const fields = JSON.parse(text ?? '') as Record<string, unknown>;
      this.disk.put(path, JSON.stringify(change(fields)));
      return true;
    } catch {
      return false;
    }
  }

  loseState(): void {
    this.hasLostState = true;
    this.#bases.clear();
    this.#visits.clear();
    this.#made = 'new';
  }

  async #liveness(process: SimProcess): Promise<Liveness> {
    await process.step(0.5 + this.parts.random() * 2);
    const { proxy } = this;
    if (proxy === undefined) return 'refused';
    if (!proxy.process.isFrozen) return 'alive';
    await process.step(3000);
    return 'silent';
  }

  #basesOf(process: SimProcess): BaseRecords {
    const memory = new Map(this.#bases);
    return {
      get: (key) => memory.get(key),
      keys: () => memory.keys(),
      set: async (base) => {
        memory.set(base.key, base);
        await process.step(0.2);
        this.#bases.set(base.key, base);
      },
      delete: async (key) => {
        memory.delete(key);
        await process.step(0.2);
        this.#bases.delete(key);
      },
    };
  }

  #journalOf(process: SimProcess): VisitJournal {
    const made = (): VisitJournal['made'] => this.#made;
    return {
      get made() {
        return made();
      },
      note: async (now) => {
        await process.step(0.2);
        this.#made = now;
      },
      all: () => [...this.#visits.values()],
      set: async (visit) => {
        await process.step(0.2);
        this.#visits.set(visit.key, visit);
      },
      delete: async (key) => {
        await process.step(0.2);
        this.#visits.delete(key);
      },
    };
  }
}

/** How a stored credential looks where no visit is under way. */
export const SEALED = sealedLens(workspaceLens(NO_HOST_SECTIONS));
