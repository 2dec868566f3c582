import { randomBytes, randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { inject, injectable, type InjectionToken } from './injection.js';
import {
  Custodian,
  custodyOff,
  Engine,
  Hasher,
  hasSubstance,
  messageOf,
  Mirror,
  ProviderPolicy,
  readMode,
  sealedLens,
  silentLog,
  TokenmirrorError,
  withoutCustody,
  workspaceLens,
  type ActedKind,
  type ClusterIdentity,
  CUSTODY_EVENTS,
  type CustodianOptions,
  type CustodyEvent,
  type EngineEvent,
  type EngineParts,
  type Lens,
  type Log,
  type MirrorEvent,
  type Session,
  type TokenStore,
} from '@tokenmirror/core';
import type { EncryptedStore } from '@tokenmirror/encryption';
import { lockDirectory, makeDirectory } from '@tokenmirror/files';
import { BaseJournal, DirectoryWorkspace, locate, VisitFiles, workspaceSource, type Locations } from '@tokenmirror/workspace';
import { livenessBeside } from './neighbour/neighbour-config.js';
import type { Settings } from './options/settings.js';
import { fillWorkspace } from './fill-workspace.js';
import { refuseOverlaps } from './overlaps.js';
import { peerPlaces, refuseMissingPeers } from './peer-places.js';
import { Replica, type Peer, type ReplicaEvent } from './replica.js';
import { StoreRegistry, type NamedStore } from './stores/store-registry.js';
import { SETTINGS } from './stores/store-provider.js';
import { systemClock } from './system-clock.js';

export const LOG: InjectionToken<Log> = Symbol('Log');

/** What this replica did to the authority, and its mirrors have to follow. */
const WRITTEN: ReadonlySet<ActedKind> = new Set(['push', 'merge', 'delete-remote']);

/** Closes what was opened, the last first. */
type Closers = (() => Promise<void>)[];

/** How a daemon opens a replica. */
export interface Opening {
  /** Opens the authority, however long that takes. */
  readonly waitForStore?: (open: () => Promise<ClusterIdentity>) => Promise<ClusterIdentity>;
  /** The same store, measured. */
  readonly measured?: (store: TokenStore) => TokenStore;
}

/** Everything of a replica, opened to be looked at. */
export interface OpenLook {
  readonly engine: Engine;
  readonly workspace: DirectoryWorkspace;
  readonly store: TokenStore;
  readonly cluster: ClusterIdentity;
  /** What the workspace shows of the store. */
  readonly lens: Lens;
  readonly mirrors: readonly NamedStore[];
  readonly peers: readonly DirectoryWorkspace[];
  readonly close: () => Promise<void>;
}

/** Builds what a command works on: the workspace, the stores, and the engine between them. */
@injectable()
export class ReplicaFactory {
  readonly #settings: Settings;
  readonly #stores: StoreRegistry;
  readonly #log: Log;

  constructor(@inject(SETTINGS) settings: Settings, @inject(StoreRegistry) stores: StoreRegistry, @inject(LOG) log: Log) {
    this.#settings = settings;
    this.#stores = stores;
    this.#log = log;
  }

  /** @throws TokenmirrorError WORKSPACE_MISSING, OPTION_INVALID */
  locations(): Locations {
    const { workspace, config } = this.#settings;
    const isElsewhere = this.#settings['auth-dir'] !== undefined || config !== undefined;
    const root = workspace ?? (isElsewhere ? undefined : upstreamWorkspace(this.#settings));
    return locate({ workspace: root, config, authDir: this.#settings['auth-dir'], stateDir: this.#settings['state-dir'] });
  }

  workspace(locations = this.locations(), log = silentLog): DirectoryWorkspace {
    return new DirectoryWorkspace(locations, systemClock, log, this.#settings['max-document-size']);
  }

  /** The workspace as something to copy from. */
  workspaceSource(): TokenStore {
    return workspaceSource(this.workspace());
  }

  /** The authority, not opened. */
  async authority(locations: Locations): Promise<EncryptedStore> {
    const store = await this.#stores.authority();
    refuseOverlaps([store], [locations]);
    return store;
  }

  /** The mirrors of an authority, not opened. @throws TokenmirrorError STORE_INVALID */
  async mirrors(authority: TokenStore, locations: Locations): Promise<readonly NamedStore[]> {
    const mirrors = await this.#stores.mirrors();
    const places = [authority.description, ...mirrors.map(({ store }) => store.description)];
    const twice = places.find((place, n) => places.indexOf(place) !== n);
    if (twice !== undefined)
      throw new TokenmirrorError(
        'STORE_INVALID',
        `${twice} is named twice`,
        'A mirror is another place than the authority, or another prefix.',
      );
    refuseOverlaps(
      mirrors.map(({ store }) => store),
      [locations],
    );
    return mirrors;
  }

  /** A mirror by its name, or any other store by name or URL, not opened. */
  async place(name: string): Promise<TokenStore> {
    const mirror = (await this.#stores.mirrors()).find((each) => each.name === name);
    return mirror?.store ?? this.#stores.named(name, 'mirror');
  }

  /** The peer directories, whether they are there or not. */
  peerLocations(main: Locations): readonly Locations[] {
    return peerPlaces(this.#settings, main);
  }

  /**
   * Opens everything to work with: alone on this workspace, the store made where it is new.
   * @throws TokenmirrorError WORKSPACE_BUSY, CLUSTER_FOREIGN and those of the store
   */
  async open(emit: (event: ReplicaEvent) => void, opening: Opening = {}): Promise<Replica> {
    const locations = this.locations();
    await makeDirectory(locations.authDir);
    await makeDirectory(locations.stateDir);
    const lost = new AbortController();
    const lock = await lockDirectory(locations.stateDir, () => {
      lost.abort(lockLost(locations));
    });
    if (!lock.ok) throw busy(locations, lock.owner?.pid);
    const closers: Closers = [lock.release];
    try {
      const replica = await this.#openLocked(locations, closers, emit, opening);
      lost.signal.addEventListener('abort', () => {
        replica.engine.fail(lost.signal.reason);
      });
      if (lost.signal.aborted) replica.engine.fail(lost.signal.reason);
      return replica;
    } catch (error) {
      await closeAll(closers);
      throw error;
    }
  }

  /** Opens everything to look at: nothing is made or changed, and a daemon may be at work meanwhile. */
  async look(): Promise<OpenLook> {
    const locations = this.locations();
    const workspace = this.workspace(locations);
    const store = await this.authority(locations);
    const mirrors = await this.mirrors(store, locations);
    const cluster = (await store.open('look')) ?? { id: 'none yet', key: randomBytes(32).toString('base64url') };
    const bases = await BaseJournal.look(locations.stateDir, {
      cluster: cluster.id,
      store: store.description,
      replica: workspace.replicaId ?? '',
    });
    const lens = await this.#lensOf(store, workspace.replicaId);
    const custody = withoutCustody(lens);
    const engine = this.#engine({ workspace, store, cluster, bases, custody, replicaId: 'looking', emit: () => undefined });
    const peers = this.peerLocations(locations).map((peer) => this.workspace(peer));
    return { engine, workspace, store, cluster, lens, mirrors, peers, close: () => store.close() };
  }

  /**
   * Writes what a mirror has, without refresh tokens, into a workspace that is new and empty: for a start while the authority is out of reach. The first mirror that answers is taken.
   * Returns how many documents were written.
   */
  async fillFromMirror(): Promise<number> {
    const locations = this.locations();
    const workspace = this.workspace(locations);
    if (workspace.replicaId !== undefined || (await hasCredential(workspace))) return 0;
    for (const { store } of await this.mirrors(await this.authority(locations), locations)) {
      try {
        return await fillWorkspace(workspace, store, this.sealedLens, this.#settings['max-document-size']);
      } catch (error) {
        this.#log.warn('mirror-unreachable', { mirror: store.description, reason: messageOf(error) });
      } finally {
        await store.close();
      }
    }
    return 0;
  }

  /** True when CLIProxyAPI finds credentials in the workspace. */
  async canServe(): Promise<boolean> {
    return hasCredential(this.workspace());
  }

  /** What a peer directory shows of the store, and every workspace of a cluster that shares its credentials. */
  get sealedLens(): Lens {
    return sealedLens(this.#wholeLens, this.policy);
  }

  get #wholeLens(): Lens {
    return workspaceLens(new Set(this.#settings['host-sections']));
  }

  /** What is known of the providers. */
  get policy(): ProviderPolicy {
    return new ProviderPolicy(this.#settings['single-use-providers'], this.#settings['reusable-providers']);
  }

  /** What the workspace of a replica shows of the store, while no visit is under way. */
  async #lensOf(store: TokenStore, replica: string | undefined): Promise<Lens> {
    const mode = await readMode(store);
    const isWhole = mode === undefined || (mode.mode === 'alone' && mode.replica === replica && mode.handover === undefined);
    return isWhole ? this.#wholeLens : this.sealedLens;
  }

  async #openLocked(
    locations: Locations,
    closers: Closers,
    emit: (event: ReplicaEvent) => void,
    { waitForStore = (open) => open(), measured = (authority) => authority }: Opening,
  ): Promise<Replica> {
    const workspace = await this.#recovered(locations);
    const peers = this.peerLocations(locations);
    refuseMissingPeers(peers);
    const store = measured(await this.authority(locations));
    const mirrorStores = await this.mirrors(store, locations);
    refuseOverlaps([store, ...mirrorStores.map((mirror) => mirror.store)], [locations, ...peers]);
    closers.push(() => store.close());
    const cluster = await waitForStore(async () => identityOf(await store.open('create'), store));
    await this.#refuseForeignCluster(locations, cluster, store);

    const mirrors: Mirror[] = [];
    const shared = { store, cluster, elsewhere: () => mirrors.flatMap(({ source }) => source ?? []) };
    const follow = (event: EngineEvent): void => {
      if (event.type === 'acted' && WRITTEN.has(event.action)) for (const mirror of mirrors) mirror.look(event.key);
    };
    const main = await this.#openEngine({ ...shared, workspace, kind: 'replica' }, locations, closers, (event) => {
      emit(event);
      if (!isOfCustody(event)) follow(event);
    });
    const emitMirror = (event: MirrorEvent): void => {
      emit(event);
      if (event.type === 'mirror-open') for (const key of main.engine.status.loginDue) main.engine.look(key);
    };
    for (const { name, store: mirror } of mirrorStores) {
      const others = (): TokenStore[] => shared.elsewhere().filter((other) => other !== mirror);
      const parts = { name, store: mirror, authority: store, cluster, replicaId: main.id, others, emit: emitMirror };
      mirrors.push(new Mirror({ ...parts, clock: systemClock, random: Math.random }, this.#mirrorOptions));
    }
    const openPeers: Peer[] = [];
    for (const place of peers) {
      const parts = { ...shared, workspace: await this.#recovered(place), kind: 'peer' as const };
      const { engine } = await this.#openEngine(parts, place, closers, (event) => {
        emit({ type: 'peer', peer: place.authDir, event });
        if (!isOfCustody(event)) follow(event);
      });
      openPeers.push({ directory: place.authDir, engine, session: this.#newSession('peer') });
    }
    const release = (): Promise<void> => closeAll(closers);
    const maxDocumentBytes = this.#settings['max-document-size'];
    const isInUse = (): Promise<boolean> => hasCredential(workspace);
    const rest = { mirrors, peers: openPeers, isInUse, maxDocumentBytes, emit, release };
    return new Replica({ ...main, store, session: this.#newSession('replica'), ...rest });
  }

  async #recovered(locations: Locations): Promise<DirectoryWorkspace> {
    await makeDirectory(locations.stateDir);
    const workspace = this.workspace(locations, this.#log);
    await workspace.recover();
    return workspace;
  }

  async #openEngine(
    parts: Pick<EngineParts, 'store' | 'cluster'> &
      Required<Pick<EngineParts, 'elsewhere'>> & { readonly workspace: DirectoryWorkspace; readonly kind: CustodianOptions['kind'] },
    locations: Locations,
    closers: Closers,
    emit: (event: EngineEvent | CustodyEvent) => void,
  ): Promise<{ readonly id: string; readonly engine: Engine; readonly custodian: Custodian | undefined }> {
    const { workspace, store, cluster, kind } = parts;
    const known =
      workspace.replicaId ?? (await BaseJournal.replicaOf(locations.stateDir, { cluster: cluster.id, store: store.description }));
    const id = known ?? randomBytes(8).toString('hex');
    const bases = await BaseJournal.open(locations.stateDir, { cluster: cluster.id, store: store.description, replica: id });
    closers.push(async () => {
      await bases.close();
      workspace.release();
    });
    const custodian =
      this.#settings.custody === 'off' && kind === 'replica' ? undefined : this.#custodian({ ...parts, bases, id, emit }, locations);
    const custody = custodian ?? custodyOff(this.#wholeLens, store, id);
    return { id, engine: this.#engine({ ...parts, bases, custody, replicaId: id, emit }), custodian };
  }

  #custodian(
    parts: {
      readonly store: TokenStore;
      readonly cluster: ClusterIdentity;
      readonly workspace: DirectoryWorkspace;
      readonly kind: CustodianOptions['kind'];
      readonly bases: BaseJournal;
      readonly id: string;
      readonly emit: (event: CustodyEvent) => void;
    },
    { stateDir, configFile }: Locations,
  ): Custodian {
    const { store, cluster, kind, id } = parts;
    const settings = this.#settings;
    return new Custodian({
      ...parts,
      replicaId: id,
      journal: new VisitFiles(stateDir, `${cluster.id} ${store.description} ${id}`),
      hasher: new Hasher(cluster.key),
      hostSections: new Set(settings['host-sections']),
      policy: this.policy,
      lens: this.#wholeLens,
      clock: systemClock,
      random: Math.random,
      maxDocumentBytes: settings['max-document-size'],
      proxy: () => (kind === 'peer' ? Promise.resolve('unknown') : livenessBeside(configFile, settings['cliproxy-url'])),
      options: {
        kind,
        setting: settings.custody === 'on' ? 'on' : 'auto',
        mayShare: !store.description.startsWith('file://') || settings['filesystem-shared'],
        isRefresher: settings.refresher,
      },
    });
  }

  #newSession(kind: CustodianOptions['kind']): Session {
    const { custody, refresher } = this.#settings;
    return {
      id: randomUUID(),
      notes: { host: hostname(), custody: kind === 'peer' ? kind : custody, isRefresher: kind === 'replica' && refresher },
    };
  }

  #engine(parts: Omit<EngineParts, 'clock' | 'random'>): Engine {
    return new Engine(
      { ...parts, clock: systemClock, random: Math.random },
      {
        hostSections: new Set(this.#settings['host-sections']),
        maxDocumentBytes: this.#settings['max-document-size'],
        pollMs: this.#settings['poll-interval'],
        sweepMs: this.#settings['sweep-interval'],
        echoMs: this.#settings['echo-window'],
        force: this.#settings.force,
      },
    );
  }

  get #mirrorOptions() {
    return {
      maxDocumentBytes: this.#settings['max-document-size'],
      intervalMs: this.#settings['mirror-interval'],
      force: this.#settings.force,
      adopt: this.#settings.adopt,
    };
  }

  async #refuseForeignCluster(locations: Locations, cluster: ClusterIdentity, store: TokenStore): Promise<void> {
    const before = await BaseJournal.clusterOf(locations.stateDir);
    if (before === undefined || before === cluster.id || this.#settings.adopt) return;
    throw new TokenmirrorError(
      'CLUSTER_FOREIGN',
      `this workspace belongs to another cluster than ${store.description}`,
      'Check that the right store is named. To join this one, merging what both have, start once with --adopt.',
    );
  }
}

/** Where CLIProxyAPI with a remote store of its own keeps its files. */
function upstreamWorkspace(settings: Settings): string | undefined {
  const [found] = (
    [
      ['pg-local-path', 'pgstore'],
      ['s3-local-path', 'objectstore'],
      ['git-local-path', 'gitstore'],
    ] as const
  ).flatMap(([option, folder]) => (settings[option] === undefined ? [] : [join(settings[option], folder)]));
  return found;
}

function isOfCustody(event: EngineEvent | CustodyEvent): event is CustodyEvent {
  return (CUSTODY_EVENTS as readonly string[]).includes(event.type);
}

async function closeAll(closers: Closers): Promise<void> {
  for (const close of closers.splice(0).reverse()) await close();
}

function identityOf(identity: ClusterIdentity | undefined, store: TokenStore): ClusterIdentity {
  if (identity !== undefined) return identity;
  throw new TokenmirrorError('INTERNAL', `${store.description} was made and has no identity`, 'Please report this.');
}

function busy({ stateDir }: Locations, pid: number | undefined): TokenmirrorError {
  return new TokenmirrorError(
    'WORKSPACE_BUSY',
    `another Tokenmirror${pid === undefined ? '' : ` (process ${String(pid)})`} works on this workspace (${stateDir})`,
    'It keeps the workspace in sync already; see `tokenmirror status`. Stop it before you start another one.',
  );
}

function lockLost({ stateDir }: Locations): TokenmirrorError {
  return new TokenmirrorError(
    'WORKSPACE_BUSY',
    `the lock on this workspace was taken away (${stateDir})`,
    'Another Tokenmirror took over, or the state directory was removed. See `tokenmirror status`, and start this one again if it should run.',
  );
}

async function hasCredential(workspace: DirectoryWorkspace): Promise<boolean> {
  if (workspace.presence() === 'missing') return false;
  for (const { key } of (await workspace.scan()).files) {
    const reading = await workspace.read(key);
    if (reading.state === 'document' && reading.document.kind === 'credential' && hasSubstance(reading.document.fields)) return true;
  }
  return false;
}
