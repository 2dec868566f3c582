import { messageOf, type Log } from '@tokenmirror/core';
import type { TelegramBot, TelegramReport, UsageAnswers } from '@tokenmirror/telegram';
import type { Alarm } from '../operations/alarms.js';
import type { Settings } from '../options/settings.js';
import { redactionOf } from '../redaction.js';
import { systemClock } from '../system-clock.js';
import type { KeyCompanion } from './key-companion.js';
import type { UsageCompanion } from './usage-companion.js';
import { usageAnswers } from './usage-answers.js';

export interface TelegramCompanionParts {
  readonly settings: Settings;
  readonly token: string;
  readonly log: Log;
  readonly keys: KeyCompanion;
  readonly usage: UsageCompanion | undefined;
  readonly replica: string;
  readonly alarms: () => readonly Alarm[];
}

/** The bot, as a part of the daemon. Whatever happens to it, everything else goes on. */
export class TelegramCompanion {
  readonly #parts: TelegramCompanionParts;
  #bot: TelegramBot | undefined;
  #isStopped = false;

  constructor(parts: TelegramCompanionParts) {
    this.#parts = parts;
  }

  get report(): TelegramReport {
    return this.#bot?.report ?? { state: 'connecting', problem: undefined };
  }

  /** Never fails. */
  async start(): Promise<void> {
    try {
      await this.#begin();
    } catch (error) {
      this.#parts.log.error('telegram-unavailable', { reason: redactionOf(this.#parts.settings)(messageOf(error)) });
    }
  }

  async #begin(): Promise<void> {
    const { settings, token, log, keys } = this.#parts;
    const { 'telegram-users': users = [], 'telegram-chats': chats = [], 'telegram-api': apiRoot } = settings;
    if (users.length === 0 && chats.length === 0)
      log.warn('telegram-obeys-nobody', { remedy: 'Name the users that it obeys in TELEGRAM_ALLOWED_USER_IDS.' });
    const { TelegramBot: Implementation } = await import('@tokenmirror/telegram');
    if (this.#isStopped) return;
    this.#bot = new Implementation({
      token,
      apiRoot,
      users,
      chats,
      commands: {
        registry: () => keys.registry,
        keeper: () => keys.keeper,
        usage: () => this.#usage,
        status: () => this.#status(),
        now: () => systemClock.now(),
      },
      redact: redactionOf(settings),
      clock: systemClock,
      log,
    });
    await this.#bot.start();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#bot?.stop();
  }

  get #usage(): UsageAnswers | undefined {
    const { usage } = this.#parts;
    return usage && usageAnswers(() => usage.questions);
  }

  #status(): readonly string[] {
    const { alarms, replica, keys } = this.#parts;
    const raised = alarms().map(({ severity, message }) => `${severity}: ${message}`);
    const targets = keys.report.targets.map(
      ({ target, problem, syncedAt }) =>
        `${target}: ${problem?.reason ?? (syncedAt === undefined ? 'no keys yet' : `keys in sync since ${new Date(syncedAt).toISOString()}`)}`,
    );
    return [`Replica ${replica}`, ...targets, ...(raised.length === 0 ? ['All is well.'] : raised)];
  }
}
