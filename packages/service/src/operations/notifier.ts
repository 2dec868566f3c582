import type { CancelTimer, Clock, Log } from '@tokenmirror/core';
import type { Redact } from '../redaction.js';
import type { Alarm } from './alarms.js';

export type NotifyFormat = 'json' | 'slack';

export interface NotifierParts {
  /** Secret: whoever has it can post there. */
  readonly url: URL;
  readonly format: NotifyFormat;
  readonly replica: () => string;
  readonly alarms: () => readonly Alarm[];
  readonly redact: Redact;
  readonly clock: Clock;
  readonly log: Log;
}

const EVERY_MS = 5000;
const TIMEOUT_MS = 10_000;
/** What ends sooner is not told, nor what comes back so soon after its end. */
const SETTLES_MS = 5000;
const LARGEST_BATCH = 20;

interface Told {
  readonly alarm: Alarm;
  readonly since: number;
  isTold: boolean;
  endedAt: number | undefined;
}

/** Tells a webhook once of each alarm, and once of its end. What could not be delivered is tried again. */
export class Notifier {
  readonly #parts: NotifierParts;
  readonly #known = new Map<string, Told>();
  #cancel: CancelTimer = () => undefined;
  #isStopped = false;
  #hasFailed = false;

  constructor(parts: NotifierParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#cancel = this.#parts.clock.after(EVERY_MS, () => {
      void this.look().finally(() => {
        if (!this.#isStopped) this.start();
      });
    });
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancel();
  }

  /** Compares what is wrong now with what was told, and tells the difference. */
  async look(): Promise<void> {
    const now = this.#parts.clock.monotonic();
    const current = new Map(this.#parts.alarms().map((alarm) => [alarm.id, alarm]));
    for (const [id, alarm] of current) {
      const known = this.#known.get(id);
      if (known === undefined) this.#known.set(id, { alarm, since: now, isTold: false, endedAt: undefined });
      else known.endedAt = undefined;
    }
    for (const [id, known] of this.#known) {
      if (current.has(id)) continue;
      known.endedAt ??= now;
      if (!known.isTold) this.#known.delete(id);
    }
    const raised = [...this.#known.values()].filter(
      ({ isTold, since, endedAt }) => !isTold && endedAt === undefined && now - since >= SETTLES_MS,
    );
    const ended = [...this.#known.values()].filter(({ isTold, endedAt }) => isTold && endedAt !== undefined && now - endedAt >= SETTLES_MS);
    const messages = [
      ...raised.map(({ alarm }) => ({ alarm, status: 'raised' as const })),
      ...ended.map(({ alarm }) => ({ alarm, status: 'recovered' as const })),
    ].slice(0, LARGEST_BATCH);
    if (messages.length === 0 || !(await this.#send(messages))) return;
    for (const { alarm, status } of messages) {
      const known = this.#known.get(alarm.id);
      if (status === 'recovered') this.#known.delete(alarm.id);
      else if (known !== undefined) known.isTold = true;
    }
  }

  async #send(messages: readonly { readonly alarm: Alarm; readonly status: 'raised' | 'recovered' }[]): Promise<boolean> {
    const { url, format, replica, redact, log } = this.#parts;
    const body =
      format === 'slack'
        ? { text: messages.map(({ alarm, status }) => slackLine(alarm, status, replica())).join('\n') }
        : {
            source: 'tokenmirror',
            replica: replica(),
            at: new Date(this.#parts.clock.now()).toISOString(),
            alarms: messages.map(({ alarm, status }) => ({ ...alarm, status })),
          };
    try {
      const { ok, status } = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: redact(JSON.stringify(body)),
        signal: AbortSignal.timeout(TIMEOUT_MS),
        redirect: 'error',
      });
      if (!ok) throw new Error(`status ${String(status)}`);
      this.#hasFailed = false;
      return true;
    } catch (error) {
      const reason = /^status \d+$/.exec((error as Error).message)?.[0] ?? 'no answer';
      if (!this.#hasFailed) log.warn('notification-failed', { reason, remedy: 'Check notify-url; it is tried again.' });
      this.#hasFailed = true;
      return false;
    }
  }
}

function slackLine({ severity, message, remedy }: Alarm, status: 'raised' | 'recovered', replica: string): string {
  if (status === 'recovered') return `:white_check_mark: *recovered* (${replica}): ${message}`;
  return `${severity === 'critical' ? ':rotating_light:' : ':warning:'} *${severity}* (${replica}): ${message}. ${remedy}`;
}
