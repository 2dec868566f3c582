import { TokenmirrorError, type Clock, type Log, type TokenStore } from '@tokenmirror/core';
import type { KeyCompanion } from '../companions/key-companion.js';
import type { UsageCompanion } from '../companions/usage-companion.js';
import type { DaemonReport } from '../daemon/status-file.js';
import type { Settings } from '../options/settings.js';
import { alarmsOf, alarmsOfStart, type Alarm } from './alarms.js';
import { redactionOf } from '../redaction.js';
import { healthOf, type Health, type Starting } from './health.js';
import type { HttpServer } from './http-server.js';
import { Metrics } from './metrics.js';
import { Notifier } from './notifier.js';
import { timedStore } from './timed-store.js';

export interface OperationsParts {
  readonly settings: Settings;
  readonly clock: Clock;
  readonly log: Log;
  readonly report: () => DaemonReport | undefined;
  readonly expiries: () => Promise<ReadonlyMap<string, number>>;
  /** `undefined` before there is one, or without one. */
  readonly keys: () => KeyCompanion | undefined;
  readonly usage: () => UsageCompanion | undefined;
}

/** Reading every credential for its expiry is not done for each scrape. */
const EXPIRIES_LAST_MS = 30_000;

/** How an operator sees a daemon from outside: health, metrics, alarms and who is told of them. */
export class Operations {
  #parts: OperationsParts;
  readonly #metrics: Metrics;
  #server: HttpServer | undefined;
  #notifier: Notifier | undefined;
  /** What is waited for before there is a report; and whether it is waited for so long that what there is has to do. */
  starting: Starting | undefined;
  isDegradedStart = false;
  #expiries: { readonly at: number; readonly found: Promise<ReadonlyMap<string, number>> } | undefined;

  constructor(parts: OperationsParts) {
    this.#parts = parts;
    const { settings, report } = parts;
    const alarms = (): Alarm[] => this.alarms;
    const health = (): Health => this.health;
    this.#metrics = new Metrics({ report, alarms, health, expiries: () => this.#credentialExpiries() });
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

  #keys(): KeyCompanion {
    const keys = this.#parts.keys();
    if (keys !== undefined) return keys;
    throw new TokenmirrorError(
      'STORE_UNREACHABLE',
      'this daemon keeps no API keys, or has not begun',
      'Give it a management key (CLIPROXY_MGMT_KEY), and leave `keys` on.',
    );
  }

  #usage(): UsageCompanion {
    const usage = this.#parts.usage();
    if (usage !== undefined) return usage;
    throw new TokenmirrorError(
      'STORE_UNREACHABLE',
      'this daemon collects no usage, or has not begun',
      'Set `usage: yes`, and give it a management key (CLIPROXY_MGMT_KEY).',
    );
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

  /** @throws TokenmirrorError OPTION_INVALID */
  async start(): Promise<void> {
    this.#server = await this.#newServer();
    await this.#server?.start();
    this.#notifier?.start();
  }

  async stop(): Promise<void> {
    this.#notifier?.stop();
    await this.#server?.stop();
  }

  async #newServer(): Promise<HttpServer | undefined> {
    const { settings, log, report, clock } = this.#parts;
    const listen = settings['http-listen'];
    if (listen === 'off') return undefined;
    const [{ HttpServer: Server }, { keyRoutes }, { usageRoutes, usageView }] = await Promise.all([
      import('./http-server.js'),
      import('@tokenmirror/key-expiry'),
      import('@tokenmirror/usage'),
    ]);
    return new Server({
      listen,
      token: settings['http-token'],
      log,
      redact: redactionOf(settings),
      health: () => this.health,
      status: () => ({ health: this.health, alarms: this.alarms, report: report() ?? null }),
      metrics: this.#metrics,
      routes: (app) => {
        const now = (): number => clock.now();
        keyRoutes(app, {
          registry: () => this.#keys().registry,
          keeper: () => this.#keys().keeper,
          usage: async (email, since) => usageView(await this.#usage().questions.account(email, since)),
          now,
        });
        usageRoutes(app, { questions: () => this.#usage().questions, collect: () => this.#usage().collectNow(), now });
      },
    });
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
