import { setTimeout as delay } from 'node:timers/promises';
import { ManagementClient } from '@tokenmirror/cliproxy-client';
import type { DocumentKey, Log, TokenStore } from '@tokenmirror/core';
import type { Locations } from '@tokenmirror/workspace';
import type { DaemonReport } from '../daemon/status-file.js';
import { CredentialWatch } from '../neighbour/credential-watch.js';
import { managementBeside } from '../neighbour/neighbour-config.js';
import { RefusedKeysFile } from '../neighbour/refused-keys-file.js';
import type { Alarm } from '../operations/alarms.js';
import type { Settings } from '../options/settings.js';
import { systemClock } from '../system-clock.js';
import { KeyCompanion } from './key-companion.js';
import { TelegramCompanion } from './telegram-companion.js';
import { UsageCompanion } from './usage-companion.js';

export interface CompanionsParts {
  readonly settings: Settings;
  readonly locations: Locations;
  readonly log: Log;
  readonly replica: string;
  /** The provider refused the access token of a credential. */
  readonly accessTokenDied: (key: DocumentKey) => void;
  readonly alarms: () => readonly Alarm[];
  /** A store by its name or URL, not opened. */
  readonly place: (name: string) => Promise<TokenStore>;
  readonly changed: () => void;
}

const STOP_MS = 2000;

/** Everything that needs a management key of CLIProxyAPI: the watch on access tokens, the API keys, and the bot in front of them. */
export class Companions {
  readonly #client: ManagementClient | undefined;
  readonly #watch: CredentialWatch | undefined;
  readonly #telegram: TelegramCompanion | undefined;
  /** Absent without a management key, or with `keys: no` and `usage: no`. */
  readonly keys: KeyCompanion | undefined;
  /** Absent without a management key, or with `usage: no`. */
  readonly usage: UsageCompanion | undefined;

  constructor(parts: CompanionsParts) {
    const { settings, locations, log, accessTokenDied } = parts;
    const { 'management-key': key, 'cliproxy-url': url, 'telegram-token': token } = settings;
    if (key !== undefined) {
      const refusedKeys = new RefusedKeysFile(locations.stateDir);
      const client = new ManagementClient({
        target: () => managementBeside(locations.configFile, url, key),
        clock: systemClock,
        refusedKeys,
      });
      const { authDir } = locations;
      this.#client = client;
      this.#watch = new CredentialWatch({ clock: systemClock, random: Math.random, log, client, authDir, died: accessTokenDied });
      if (settings.keys || settings.usage) this.keys = new KeyCompanion({ ...parts, client, refusedKeys });
      if (settings.usage && this.keys !== undefined) this.usage = new UsageCompanion({ ...parts, keys: this.keys });
    }
    if (token === undefined) return;
    if (this.keys !== undefined) this.#telegram = new TelegramCompanion({ ...parts, token, keys: this.keys, usage: this.usage });
    else log.warn('telegram-needs-keys', { remedy: 'Give a management key (CLIPROXY_MGMT_KEY), and leave `keys` on.' });
  }

  get report(): Pick<DaemonReport, 'management' | 'keys' | 'usage' | 'telegram'> {
    return { management: this.#watch?.report, keys: this.keys?.report, usage: this.usage?.report, telegram: this.#telegram?.report };
  }

  start(): void {
    void this.keys?.start();
    void this.usage?.start();
    void this.#telegram?.start();
  }

  /** The workspace is in sync. */
  ready(): void {
    this.#watch?.start();
    this.keys?.poke();
  }

  /** The CLIProxyAPI beside the workspace was seen to answer. */
  cliproxyAnswers(): void {
    this.keys?.poke();
  }

  /** Within bounds: nobody waits for a chat or a database that does not answer. */
  async stop(): Promise<void> {
    this.#watch?.stop();
    const ended = (async () => {
      await this.#telegram?.stop();
      await this.usage?.stop();
      await this.keys?.stop();
    })().catch(() => undefined);
    const tooLong = new AbortController();
    await Promise.race([ended, delay(STOP_MS, undefined, { signal: tooLong.signal }).catch(() => undefined)]);
    tooLong.abort();
    this.#client?.close();
  }
}
