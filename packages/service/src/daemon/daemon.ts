import { setTimeout as delay } from 'node:timers/promises';
import { inject, injectable } from '../injection.js';
import { backoffMs, isOutage, messageOf, TokenmirrorError, type ClusterIdentity, type Log } from '@tokenmirror/core';
import type { Locations } from '@tokenmirror/workspace';
import type { OptionName } from '../options/option-table.js';
import { changedOptions, type Settings } from '../options/settings.js';
import type { Replica, ReplicaEvent } from '../replica.js';
import { LOG, ReplicaFactory } from '../replica-factory.js';
import { SETTINGS } from '../stores/store-provider.js';
import { StoreRegistry } from '../stores/store-registry.js';
import { Companions } from '../companions/companions.js';
import { Neighbour } from '../neighbour/neighbour.js';
import { livenessBeside } from '../neighbour/neighbour-config.js';
import { systemClock } from '../system-clock.js';
import { VERSION } from '../version.js';
import { logEvent } from './event-log.js';
import { Operations } from '../operations/operations.js';
import { credentialExpiries } from '../operations/credential-expiries.js';
import { StatusFile, type DaemonReport } from './status-file.js';

/** How long a stop may take to finish what is under way, in ms. */
const FLUSH_MS = 8000;

/** What a reload takes over; the log's level belongs to whoever made the log. */
const RELOADABLE: ReadonlySet<OptionName> = new Set([
  'log-level',
  'alarm-outage-after',
  'alarm-mirror-after',
  'notify-url',
  'notify-format',
]);

export interface DaemonHooks {
  /** Told once, when everything is in sync for the first time. */
  readonly ready?: () => void;
  readonly event?: (event: ReplicaEvent) => void;
}

/** What a daemon consists of while it runs. */
interface Running {
  readonly replica: Replica;
  readonly neighbour: Neighbour;
  readonly companions: Companions;
  readonly file: StatusFile;
  readonly locations: Locations;
}

/** `tokenmirror run`: keeps a workspace and its store in sync until it is told to stop. */
@injectable()
export class Daemon {
  readonly #settings: Settings;
  readonly #replicas: ReplicaFactory;
  readonly #stores: StoreRegistry;
  readonly #log: Log;
  #replica: Replica | undefined;
  #locations: Locations | undefined;
  #operations: Operations | undefined;
  readonly #stopping = new AbortController();

  constructor(
    @inject(SETTINGS) settings: Settings,
    @inject(ReplicaFactory) replicas: ReplicaFactory,
    @inject(StoreRegistry) stores: StoreRegistry,
    @inject(LOG) log: Log,
  ) {
    this.#settings = settings;
    this.#replicas = replicas;
    this.#stores = stores;
    this.#log = log;
  }

  /** Resolves after `stop`. @throws TokenmirrorError for what waiting cannot mend */
  async run(hooks: DaemonHooks = {}): Promise<void> {
    const locations = this.#replicas.locations();
    this.#locations = locations;
    const startedAt = Date.now();
    let report: (() => DaemonReport) | undefined;
    let companions: Companions | undefined;
    const operations = new Operations({
      settings: this.#settings,
      clock: systemClock,
      log: this.#log,
      report: () => report?.(),
      expiries: () => credentialExpiries(this.#replicas.workspace(locations)),
      keys: () => companions?.keys,
      usage: () => companions?.usage,
    });
    this.#operations = operations;
    await operations.start();
    try {
      const replica = await this.#replicas.open(
        (event) => {
          logEvent(this.#log, event);
          hooks.event?.(event);
          file.changed();
        },
        { waitForStore: (open) => this.#waitForStore(open, operations), measured: (store) => operations.timed(store) },
      );
      this.#replica = replica;
      const neighbour = new Neighbour({
        locations,
        url: this.#settings['cliproxy-url'],
        clock: systemClock,
        log: this.#log,
        changed: () => {
          if (neighbour.report?.answers === true) companions?.cliproxyAnswers();
          file.changed();
        },
      });
      companions = new Companions({
        settings: this.#settings,
        locations,
        log: this.#log,
        replica: replica.id,
        accessTokenDied: (key) => {
          replica.accessTokenDied(key);
        },
        alarms: () => operations.alarms,
        place: (name) => this.#replicas.place(name),
        changed: () => {
          file.changed();
        },
      });
      const reportNow = (): DaemonReport => ({
        pid: process.pid,
        version: VERSION,
        replica: replica.id,
        store: replica.store.description,
        startedAt,
        writtenAt: Date.now(),
        engine: replica.engine.status,
        custody: replica.custody,
        mirrors: replica.mirrors.map(({ status }) => status),
        peers: replica.peers,
        neighbour: neighbour.report,
        ...companions?.report,
      });
      report = reportNow;
      const file = new StatusFile(locations.stateDir, reportNow);
      await this.#runReplica({ replica, neighbour, companions, file, locations }, () => {
        this.#log.info('ready', { afterMs: Date.now() - startedAt });
        hooks.ready?.();
      });
    } catch (error) {
      if (!this.#stopping.signal.aborted || this.#replica !== undefined) throw error;
    } finally {
      await operations.stop();
    }
  }

  async #runReplica({ replica, neighbour, companions, file, locations }: Running, ready: () => void): Promise<void> {
    this.#log.info('started', {
      version: VERSION,
      workspace: locations.authDir,
      config: locations.configFile,
      store: replica.store.description,
      replica: replica.id,
      mirrors: replica.mirrors.map(({ status }) => status.description),
      peers: replica.peers.map(({ directory }) => directory),
    });
    for (const name of this.#stores.unused()) this.#log.warn('store-unused', { store: name, reason: 'another store is the authority' });
    await file.write();
    try {
      if (this.#stopping.signal.aborted) return;
      neighbour.start();
      companions.start();
      await replica.run(() => {
        companions.ready();
        void file.write();
        ready();
      });
    } finally {
      neighbour.stop();
      await companions.stop();
      await replica.close();
      await file.write();
      this.#log.info('stopped');
    }
  }

  /** Takes over what can be changed while it runs. Returns what needs a restart. */
  reload(settings: Settings): readonly OptionName[] {
    const changed = changedOptions(this.#settings, settings);
    this.#operations?.reload(settings);
    return changed.filter((name) => !RELOADABLE.has(name));
  }

  /** Finishes what is under way, within bounds, and ends `run`. */
  async stop(): Promise<void> {
    if (this.#stopping.signal.aborted) return;
    this.#stopping.abort();
    const replica = this.#replica;
    if (replica === undefined) return;
    if (await this.#hasOutlivedProxy()) replica.proxyEnded();
    else replica.ending();
    const flushed = new AbortController();
    const tooLong = delay(FLUSH_MS, undefined, { signal: flushed.signal }).catch(() => undefined);
    await Promise.race([replica.settled(), tooLong]);
    flushed.abort();
    await replica.stop();
  }

  /** A sidecar is stopped alone, too: its image changes, or its probe fails. So nothing may listen there any more. */
  async #hasOutlivedProxy(): Promise<boolean> {
    if (!this.#settings['outlives-cliproxy']) return false;
    const liveness = await livenessBeside(this.#locations?.configFile, this.#settings['cliproxy-url']);
    return liveness === 'refused' || liveness === 'unknown';
  }

  /** A store that is down when the daemon starts is waited for; one that refuses us is not. After a while what a mirror or the last workspace has must do. */
  async #waitForStore(open: () => Promise<ClusterIdentity>, operations: Operations): Promise<ClusterIdentity> {
    const since = performance.now();
    for (let attempt = 0; ; attempt += 1) {
      try {
        const cluster = await open();
        operations.starting = undefined;
        return cluster;
      } catch (error) {
        if (!isOutage(error) || this.#stopping.signal.aborted) throw error;
        const remedy = error instanceof TokenmirrorError ? error.remedy : '';
        const reason = messageOf(error);
        operations.starting = { waitsFor: reason, remedy, since: operations.starting?.since ?? Date.now() };
        this.#log[attempt === 0 ? 'error' : 'debug']('store-unreachable', { reason, remedy });
        const left = this.#settings['start-degraded-after'] - (performance.now() - since);
        if (left <= 0 && !operations.isDegradedStart) {
          const filled = await this.#replicas.fillFromMirror();
          operations.isDegradedStart = await this.#replicas.canServe();
          if (operations.isDegradedStart)
            this.#log.warn('started-degraded', {
              documents: filled,
              reason: 'the authority is out of reach; CLIProxyAPI is served from what there is',
            });
        }
        const pause = Math.min(backoffMs(attempt, Math.random), this.#settings['poll-interval'], left > 0 ? Math.max(left, 50) : Infinity);
        await delay(pause, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      }
    }
  }
}
