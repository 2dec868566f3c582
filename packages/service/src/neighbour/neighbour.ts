import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { CancelTimer, Clock, Log } from '@tokenmirror/core';
import type { Locations } from '@tokenmirror/workspace';
import { readNeighbourConfig, type NeighbourConfig } from './neighbour-config.js';
import { probe, type ProbeAnswer } from '@tokenmirror/cliproxy-client';

/** What is known of the CLIProxyAPI beside a daemon, without a management key. */
export interface NeighbourReport {
  readonly url: string;
  readonly answers: boolean;
  /** Its version, or what its files tell of it. */
  readonly flavour: string | undefined;
  /** It serves everyone, with any key or none. */
  readonly isOpen: boolean;
  /** It goes by other API keys than those in its config file: its watch on the file was lost. */
  readonly hasLostConfig: boolean;
}

export interface NeighbourParts {
  readonly locations: Locations;
  /** Where it listens; taken from the config when absent. */
  readonly url: string | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** Told when the report changed. */
  readonly changed: () => void;
}

const EVERY_MS = 5000;
/** A change of the config is given this long to take effect: 2 s in the worst reports. */
const CONFIG_SETTLES_MS = 5000;

/**
 * Looks at CLIProxyAPI from outside, as a client would: does it answer, does it let strangers in, does it know the keys that its config file has now, and
 * has it forgotten those that were taken out.
 */
export class Neighbour {
  readonly #parts: NeighbourParts;
  #report: NeighbourReport | undefined;
  #keysBefore: readonly string[] | undefined;
  #removedKey: string | undefined;
  #cancel: CancelTimer | undefined;
  #stopped = false;

  constructor(parts: NeighbourParts) {
    this.#parts = parts;
  }

  get report(): NeighbourReport | undefined {
    return this.#report;
  }

  start(): void {
    void this.look().finally(() => {
      if (!this.#stopped)
        this.#cancel = this.#parts.clock.after(EVERY_MS, () => {
          this.start();
        });
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }

  /** One look, without waiting for the next. */
  async look(): Promise<void> {
    const { locations, url, clock, changed } = this.#parts;
    const config = locations.configFile === undefined ? undefined : readNeighbourConfig(locations.configFile, url);
    if (config === undefined) return;
    const stranger = await probe(config.url, '/v1/models');
    const before = this.#report;
    const isSettled = clock.now() - config.writtenAt > CONFIG_SETTLES_MS;
    const isOpen = stranger?.status === 200;
    this.#noteKeys(config);
    this.#report = {
      url: config.url.href,
      answers: stranger !== undefined,
      flavour: stranger === undefined ? before?.flavour : this.#flavourOf(stranger),
      isOpen,
      hasLostConfig:
        stranger !== undefined && !isOpen && (isSettled ? await this.#goesByOtherKeys(config) : (before?.hasLostConfig ?? false)),
    };
    if (JSON.stringify(before) === JSON.stringify(this.#report)) return;
    this.#tell(before, this.#report);
    changed();
  }

  #noteKeys({ apiKeys }: NeighbourConfig): void {
    const removed = this.#keysBefore?.find((key) => !apiKeys.includes(key));
    if (removed !== undefined) this.#removedKey = removed;
    if (this.#removedKey !== undefined && apiKeys.includes(this.#removedKey)) this.#removedKey = undefined;
    this.#keysBefore = apiKeys;
  }

  async #goesByOtherKeys({ url, apiKeys }: NeighbourConfig): Promise<boolean> {
    for (const key of new Set([apiKeys[0], apiKeys.at(-1)])) {
      if (key !== undefined && (await probe(url, '/v1/models', key))?.status === 401) return true;
    }
    return this.#removedKey !== undefined && (await probe(url, '/v1/models', this.#removedKey))?.status === 200;
  }

  #flavourOf({ version }: ProbeAnswer): string | undefined {
    if (version !== undefined) return version;
    return existsSync(join(this.#parts.locations.authDir, 'logs')) ? '6.x, for it writes logs beside the credentials' : undefined;
  }

  #tell(before: NeighbourReport | undefined, now: NeighbourReport): void {
    const { log } = this.#parts;
    const { url } = now;
    if (now.answers !== (before?.answers ?? false)) log.info(now.answers ? 'cliproxy-answers' : 'cliproxy-silent', { url });
    if (now.isOpen && before?.isOpen !== true) {
      log.error('cliproxy-open', { url, remedy: 'It serves everyone, with any key or none. Put api-keys into config.yaml.' });
    }
    if (now.hasLostConfig && before?.hasLostConfig !== true) {
      log.error('cliproxy-config-lost', {
        url,
        remedy: 'It does not go by the api-keys in config.yaml any more: a rename over the file ends its watch. Restart CLIProxyAPI.',
      });
    }
  }
}
