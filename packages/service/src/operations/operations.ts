import type { Clock, Log, TokenStore } from '@tokenmirror/core';
import type { DaemonReport } from '../daemon/status-file.js';
import type { Settings } from '../options/settings.js';
import { alarmsOf, alarmsOfStart, type Alarm } from './alarms.js';
import { redactionOf } from '../redaction.js';
import { healthOf, type Health, type Starting } from './health.js';
import { HttpServer } from './http-server.js';
import { Metrics } from './metrics.js';
import { Notifier } from './notifier.js';
import { timedStore } from './timed-store.js';

export interface OperationsParts {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly log: Log;
  readonly report: () => DaemonReport | undefined;
  readonly expiries: () => Promise<ReadonlyMap<string, number>>;
}

/** Reading every credential for its expiry is not done for each scrape. */
const EXPIRIES_LAST_MS = 30_000;

/** How an operator sees a daemon from outside: health, metrics, alarms and who is told of them. */
export class Operations {
  #parts: OperationsParts;
  readonly #metrics: Metrics;
  readonly #server: HttpServer | undefined;
  #notifier: Notifier | undefined;
  /** What is waited for before there is a report; and whether it is waited for so long that what there is has to do. */
  starting: Starting | undefined;
  isDegradedStart = false;
  #expiries: { readonly at: number; readonly found: Promise<ReadonlyMap<string, number>> } | undefined;

  /** @throws TokenmirrorError OPTION_INVALID */
  constructor(parts: OperationsParts) {
    this.#parts = parts;
    const { settings, log, report } = parts;
    const alarms = (): Alarm[] => this.alarms;
    const health = (): Health => this.health;
    this.#metrics = new Metrics({ report, alarms, health, expiries: () => this.#credentialExpiries() });
    const listen = settings['http-listen'];
    const redact = redactionOf(settings);
    const status = (): unknown => ({ health: this.health, alarms: this.alarms, report: report() ?? null });
    this.#server =
      listen === 'off'
        ? undefined
        : new HttpServer({ listen, token: settings['http-token'], log, redact, health, status, metrics: this.#metrics });
    this.#notifier = this.#notifierOf(settings);
  }

  /** Takes over what can be changed while it runs. */
  reload(settings: Settings): void {
    const before = this.#parts.settings;
    this.#parts = { ...this.#parts, settings };
    if (before['notify-url'] === settings['notify-url'] && before['notify-format'] === settings['notify-format']) return;
    this.#notifier?.stop();
    this.#notifier = this.#notifierOf(settings);
    this.#notifier?.start();
  }

  get alarms(): Alarm[] {
    const { settings, report, clock } = this.#parts;
    const now = report();
    const patience = { outageMs: settings['alarm-outage-after'], mirrorMs: settings['alarm-mirror-after'] };
    if (now !== undefined) return alarmsOf(now, clock.now(), patience);
    return this.starting === undefined ? [] : alarmsOfStart(this.starting, clock.now(), patience);
  }

  get health(): Health {
    const { starting, isDegradedStart } = this;
    return healthOf(this.#parts.report(), this.alarms, { starting, isDegradedStart });
  }

  /** The same store, measured. */
  timed(store: TokenStore): TokenStore {
    return timedStore(store, (timing) => {
      this.#metrics.timed(timing);
    });
  }

  async start(): Promise<void> {
    await this.#server?.start();
    this.#notifier?.start();
  }

  async stop(): Promise<void> {
    this.#notifier?.stop();
    await this.#server?.stop();
  }

  #notifierOf(settings: Settings): Notifier | undefined {
    const { 'notify-url': written, 'notify-format': format } = settings;
    if (written === undefined) return undefined;
    const { clock, log, report } = this.#parts;
    const url = new URL(written);
    return new Notifier({
      url,
      format: format === 'auto' ? (/(^|\.)slack\.com$/.test(url.hostname) ? 'slack' : 'json') : format,
      replica: () => report()?.replica ?? 'starting',
      alarms: () => this.alarms,
      redact: redactionOf(settings),
      clock,
      log,
    });
  }

  #credentialExpiries(): Promise<ReadonlyMap<string, number>> {
    const { clock, expiries } = this.#parts;
    const now = clock.monotonic();
    if (this.#expiries === undefined || now - this.#expiries.at > EXPIRIES_LAST_MS)
      this.#expiries = { at: now, found: expiries().catch(() => new Map()) };
    return this.#expiries.found;
  }
}
