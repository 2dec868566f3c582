import { setTimeout as delay } from 'node:timers/promises';
import { ManagementClient, type ManagementTarget, type RefusedKeys } from '@tokenmirror/cliproxy-client';
import { backoffMs, isOutage, messageOf, TokenmirrorError, type Log } from '@tokenmirror/core';
import type { KeyKeeper, KeyRegistry, KeysReport } from '@tokenmirror/key-expiry';
import type { Locations } from '@tokenmirror/workspace';
import type { Settings } from '../options/settings.js';
import { systemClock } from '../system-clock.js';
import { openKeyRegistry } from './open-registry.js';

export interface KeyCompanionParts {
  readonly settings: Settings;
  readonly locations: Locations;
  readonly log: Log;
  readonly replica: string;
  /** Of the CLIProxyAPI beside this workspace. */
  readonly client: ManagementClient;
  readonly refusedKeys: RefusedKeys;
  readonly changed: () => void;
}

/** One CLIProxyAPI that gets the keys. */
export interface KeyTarget {
  readonly name: string;
  readonly client: ManagementClient;
}

/** Opens the registry of API keys, and keeps them right while the daemon runs. Whatever happens to it, replication goes on. */
export class KeyCompanion {
  readonly #parts: KeyCompanionParts;
  readonly #stopping = new AbortController();
  #registry: KeyRegistry | undefined;
  #keeper: KeyKeeper | undefined;
  #problem: string | undefined;
  #targets: readonly KeyTarget[] = [];
  #tellOpened: (registry: KeyRegistry | undefined) => void = () => undefined;
  /** Resolves when the registry is open, or to `undefined` when it will never be. */
  readonly opened = new Promise<KeyRegistry | undefined>((resolve) => (this.#tellOpened = resolve));

  constructor(parts: KeyCompanionParts) {
    this.#parts = parts;
  }

  get report(): KeysReport {
    return (
      this.#keeper?.report ?? {
        registry: 'not open',
        problem: this.#problem,
        targets: [],
        ending: [],
        nearLimit: [],
        unreadable: [],
        requests: [],
      }
    );
  }

  /** The CLIProxyAPI beside the workspace, and those that the settings name; none where these cannot be used. */
  get targets(): readonly KeyTarget[] {
    return this.#targets;
  }

  /** @throws TokenmirrorError STORE_UNREACHABLE while it is not open */
  get registry(): KeyRegistry {
    return this.#open(this.#registry);
  }

  /** @throws TokenmirrorError STORE_UNREACHABLE while it is not open */
  get keeper(): KeyKeeper {
    return this.#open(this.#keeper);
  }

  /** Opens the registry, however long its database is out of reach, and begins. Never fails. */
  async start(): Promise<void> {
    const { settings, locations, log, changed } = this.#parts;
    const unusable = this.#findTargets();
    for (let attempt = 0; !this.#stopping.signal.aborted; attempt += 1) {
      try {
        this.#registry = await openKeyRegistry(settings, locations);
        this.#problem = unusable;
        break;
      } catch (error) {
        const remedy = error instanceof TokenmirrorError ? error.remedy : '';
        if (this.#problem !== messageOf(error)) log.warn('keys-unavailable', { reason: messageOf(error), remedy });
        this.#problem = messageOf(error);
        changed();
        if (!isOutage(error)) break;
        await delay(backoffMs(attempt, Math.random), undefined, { signal: this.#stopping.signal }).catch(() => undefined);
      }
    }
    try {
      if (this.#stopping.signal.aborted) await this.#registry?.close();
      else if (this.#registry !== undefined && unusable === undefined) await this.#begin(this.#registry);
    } catch (error) {
      this.#cannot(error);
    }
    this.#tellOpened(this.#stopping.signal.aborted ? undefined : this.#registry);
  }

  /** A CLIProxyAPI came back, or the workspace is in sync. */
  poke(): void {
    this.#keeper?.syncNow().catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#keeper?.stop();
    for (const { client } of this.#targets.slice(1)) client.close();
    await this.#registry?.close();
  }

  /** Why the settings cannot be used, if so. */
  #findTargets(): string | undefined {
    const { settings, client, refusedKeys } = this.#parts;
    try {
      this.#targets = keyTargets(settings, client, refusedKeys);
    } catch (error) {
      this.#cannot(error);
    }
    return this.#problem;
  }

  #cannot(error: unknown): void {
    this.#problem = messageOf(error);
    const remedy = error instanceof TokenmirrorError ? error.remedy : '';
    this.#parts.log.error('keys-unavailable', { reason: this.#problem, remedy });
    this.#parts.changed();
  }

  async #begin(registry: KeyRegistry): Promise<void> {
    const { KeyKeeper: Keeper, KeySync, WantedSource } = await import('@tokenmirror/key-expiry');
    const { settings, replica, log, changed } = this.#parts;
    const wanted = new WantedSource(registry, systemClock);
    const syncs = (settings.keys ? this.#targets : []).map(
      (target) => new KeySync({ registry, wanted, client: target.client, clock: systemClock, target: `${replica} ${target.name}` }),
    );
    const names = syncs.map(({ target }) => target);
    await registry.targets.keep(replica, names).catch(() => undefined);
    this.#keeper = new Keeper({
      registry,
      wanted,
      syncs,
      clock: systemClock,
      log,
      intervalMs: settings['key-sync-interval'],
      remindMs: settings['key-reminder'],
      changed,
    });
    if (!this.#stopping.signal.aborted) this.#keeper.start();
  }

  #open<T>(part: T | undefined): T {
    if (part !== undefined) return part;
    throw new TokenmirrorError(
      'STORE_UNREACHABLE',
      `the registry of keys is not open${this.#problem === undefined ? '' : ` (${this.#problem})`}`,
      'It is tried again by itself; see the log.',
    );
  }
}

/** The CLIProxyAPI beside the workspace, and those that the settings name. @throws TokenmirrorError OPTION_INVALID */
export function keyTargets(settings: Settings, beside: ManagementClient, refusedKeys: RefusedKeys): KeyTarget[] {
  const { 'key-targets': urls = [], 'key-target-keys': written, 'management-key': common } = settings;
  const keys = written?.split(',').map((key) => key.trim());
  if (keys !== undefined && keys.length !== urls.length)
    throw new TokenmirrorError(
      'OPTION_INVALID',
      `key-targets names ${String(urls.length)} addresses, and key-target-keys ${String(keys.length)} keys`,
      'Give one for each, in the same order.',
    );
  const others = urls.map((url, n): KeyTarget => {
    if (!URL.canParse(url) || !/^https?:/.test(url) || new URL(url).password !== '')
      throw new TokenmirrorError(
        'OPTION_INVALID',
        'key-targets holds something that is no address',
        'Write http://host:8317, without a key.',
      );
    const target: ManagementTarget = { url: new URL(url), key: keys?.[n] ?? common ?? '', secret: '' };
    const client = new ManagementClient({ target: () => target, clock: systemClock, refusedKeys });
    return { name: target.url.origin, client };
  });
  return [{ name: 'beside', client: beside }, ...others];
}
