import { ManagementClient } from '@tokenmirror/cliproxy-client';
import type { DocumentKey, Log } from '@tokenmirror/core';
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

export interface CompanionsParts {
  readonly settings: Settings;
  readonly locations: Locations;
  readonly log: Log;
  readonly replica: string;
  /** The provider refused the access token of a credential. */
  readonly accessTokenDied: (key: DocumentKey) => void;
  readonly alarms: () => readonly Alarm[];
  readonly changed: () => void;
}

/** Everything that needs a management key of CLIProxyAPI: the watch on access tokens, the API keys, and the bot in front of them. */
export class Companions {
  readonly #client: ManagementClient | undefined;
  readonly #watch: CredentialWatch | undefined;
  readonly #telegram: TelegramCompanion | undefined;
  /** Absent without a management key, or with `keys: no`. */
  readonly keys: KeyCompanion | undefined;

  constructor(parts: CompanionsParts) {
    const { settings, locations, log, replica, alarms, accessTokenDied } = parts;
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
      if (settings.keys) this.keys = new KeyCompanion({ ...parts, client, refusedKeys });
    }
    if (token === undefined) return;
    if (this.keys !== undefined) this.#telegram = new TelegramCompanion({ settings, token, log, keys: this.keys, replica, alarms });
    else log.warn('telegram-needs-keys', { remedy: 'Give a management key (CLIPROXY_MGMT_KEY), and leave `keys` on.' });
  }

  get report(): Pick<DaemonReport, 'management' | 'keys' | 'telegram'> {
    return { management: this.#watch?.report, keys: this.keys?.report, telegram: this.#telegram?.report };
  }

  start(): void {
    void this.keys?.start();
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

  async stop(): Promise<void> {
    this.#watch?.stop();
    await this.#telegram?.stop();
    await this.keys?.stop();
    this.#client?.close();
  }
}
