import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, realpathSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join, sep } from 'node:path';
import { inject, injectable, type InjectionToken } from './injection.js';
import {
  Engine,
  silentLog,
  TokenmirrorError,
  type BaseRecords,
  type ClusterIdentity,
  type EngineEvent,
  type Log,
  type TokenStore,
} from '@tokenmirror/core';
import { lockDirectory, makeDirectory } from '@tokenmirror/files';
import { BaseJournal, DirectoryWorkspace, locate, workspaceSource, type Locations } from '@tokenmirror/workspace';
import type { Settings } from './options/settings.js';
import { StoreRegistry } from './stores/store-registry.js';
import { SETTINGS } from './stores/store-provider.js';
import { systemClock } from './system-clock.js';

export const LOG: InjectionToken<Log> = Symbol('Log');

/** One workspace with its store, opened. */
export interface OpenReplica {
  readonly id: string;
  readonly engine: Engine;
  readonly store: TokenStore;
  readonly session: { readonly id: string; readonly host: string };
  readonly close: () => Promise<void>;
}

/** Builds what a command works on: the workspace, the store, and the engine between them. */
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
  async authority(locations: Locations): Promise<TokenStore> {
    const store = await this.#stores.authority();
    refuseOverlap(store, locations);
    return store;
  }

  /**
   * Opens everything to work with: alone on this workspace, the store made where it is new.
   * @throws TokenmirrorError WORKSPACE_BUSY, CLUSTER_FOREIGN and those of the store
   */
  async open(
    emit: (event: EngineEvent) => void,
    waitForStore: (open: () => Promise<ClusterIdentity>) => Promise<ClusterIdentity> = (open) => open(),
  ): Promise<OpenReplica> {
    const locations = this.locations();
    await makeDirectory(locations.authDir);
    await makeDirectory(locations.stateDir);
    const lost = new AbortController();
    const lock = await lockDirectory(locations.stateDir, () => {
      lost.abort(lockLost(locations));
    });
    if (!lock.ok) throw busy(locations, lock.owner?.pid);
    try {
      const replica = await this.#openLocked(locations, lock.release, emit, waitForStore);
      lost.signal.addEventListener('abort', () => {
        replica.engine.fail(lost.signal.reason);
      });
      if (lost.signal.aborted) replica.engine.fail(lost.signal.reason);
      return replica;
    } catch (error) {
      await lock.release();
      throw error;
    }
  }

  async #openLocked(
    locations: Locations,
    release: () => Promise<void>,
    emit: (event: EngineEvent) => void,
    waitForStore: (open: () => Promise<ClusterIdentity>) => Promise<ClusterIdentity>,
  ): Promise<OpenReplica> {
    const workspace = this.workspace(locations, this.#log);
    await workspace.recover();
    const store = await this.authority(locations);
    const cluster = await waitForStore(async () => identityOf(await store.open('create'), store));
    await this.#refuseForeignCluster(locations, cluster, store);
    const id = workspace.replicaId ?? randomBytes(9).toString('base64url');
    const bases = await BaseJournal.open(locations.stateDir, { cluster: cluster.id, store: store.description, replica: id });
    const engine = this.#engine({ workspace, store, cluster, bases, id, emit });
    return {
      id,
      engine,
      store,
      session: { id: randomUUID(), host: hostname() },
      close: async () => {
        await engine.stop();
        await bases.close();
        workspace.release();
        await store.close();
        await release();
      },
    };
  }

  /** Opens everything to look at: nothing is made or changed, and a daemon may be at work meanwhile. */
  async look(): Promise<{
    readonly engine: Engine;
    readonly workspace: DirectoryWorkspace;
    readonly store: TokenStore;
    readonly cluster: ClusterIdentity;
    readonly close: () => Promise<void>;
  }> {
    const locations = this.locations();
    const workspace = this.workspace(locations);
    const store = await this.authority(locations);
    const cluster = (await store.open('look')) ?? { id: 'none yet', key: randomBytes(32).toString('base64url') };
    const bases = await BaseJournal.look(locations.stateDir, {
      cluster: cluster.id,
      store: store.description,
      replica: workspace.replicaId ?? '',
    });
    const engine = this.#engine({ workspace, store, cluster, bases, id: 'looking', emit: () => undefined });
    return { engine, workspace, store, cluster, close: () => store.close() };
  }

  #engine(parts: {
    workspace: DirectoryWorkspace;
    store: TokenStore;
    cluster: ClusterIdentity;
    bases: BaseRecords;
    id: string;
    emit: (event: EngineEvent) => void;
  }): Engine {
    const { id: replicaId, ...rest } = parts;
    return new Engine(
      { ...rest, replicaId, clock: systemClock, random: Math.random },
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

/** A store inside the workspace, or the other way round, would mirror itself. */
function refuseOverlap(store: TokenStore, { authDir }: Locations): void {
  if (!store.description.startsWith('file://')) return;
  const directory = real(store.description.slice('file://'.length));
  const auths = real(authDir);
  if (directory === auths || auths.startsWith(directory + sep) || directory.startsWith(auths + sep)) {
    throw new TokenmirrorError(
      'STORE_INVALID',
      `the store ${store.description} and the auth directory ${authDir} lie in each other`,
      'Name a directory of its own for the store.',
    );
  }
}

function real(path: string): string {
  return existsSync(path) ? realpathSync(path) : join(real(dirname(path)), path.slice(dirname(path).length + 1));
}
