import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { UsageReport } from '../companions/usage-companion.js';
import type { DaemonReport } from '../daemon/status-file.js';
import { ALARM_KINDS, type Alarm } from './alarms.js';
import type { Health } from './health.js';
import { maskedName } from './masked-name.js';
import type { StoreTiming } from './timed-store.js';

export interface MetricsSource {
  readonly report: () => DaemonReport | undefined;
  readonly alarms: () => readonly Alarm[];
  readonly health: () => Health;
  /** Expiry of each credential, in ms since the epoch, by its name. */
  readonly expiries: () => Promise<ReadonlyMap<string, number>>;
}

const PREFIX = 'tokenmirror_';
const AUTHORITY_UP = '0 while the authority is out of reach';
const STORE_SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 15];

/** What a daemon measures, in the format of Prometheus. Names of credentials are masked. */
export class Metrics {
  readonly #source: MetricsSource;
  readonly #registry = new Registry();
  readonly #storeSeconds: Histogram;
  readonly #storeErrors: Counter;
  readonly #gauges = new Map<string, Gauge>();

  constructor(source: MetricsSource) {
    this.#source = source;
    const registers = [this.#registry];
    this.#storeSeconds = new Histogram({
      name: `${PREFIX}store_seconds`,
      help: 'Time that operations of the authority took',
      labelNames: ['operation'],
      buckets: STORE_SECONDS,
      registers,
    });
    this.#storeErrors = new Counter({
      name: `${PREFIX}store_errors_total`,
      help: 'Operations of the authority that failed, by error code',
      labelNames: ['operation', 'code'],
      registers,
    });
  }

  timed({ operation, seconds, error }: StoreTiming): void {
    this.#storeSeconds.observe({ operation }, seconds);
    if (error !== undefined) this.#storeErrors.inc({ operation, code: error });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  async text(): Promise<string> {
    for (const gauge of this.#gauges.values()) gauge.reset();
    const { health, report, alarms, expiries } = this.#source;
    const raised = new Map<string, number>();
    for (const { kind } of alarms()) raised.set(kind, (raised.get(kind) ?? 0) + 1);
    for (const kind of ALARM_KINDS) this.#set('alarms', 'Alarms that are raised now, by kind', raised.get(kind) ?? 0, { kind });
    this.#set('ready', '1 when the workspace is as it should be', health().isReady ? 1 : 0);
    const now = report();
    if (now === undefined) this.#set('authority_up', AUTHORITY_UP, 0);
    else this.#setReport(now);
    for (const [name, expires] of await expiries())
      this.#set('credential_expiry_timestamp_seconds', 'When the access token of a credential ends', expires / 1000, {
        credential: maskedName(name),
      });
    return this.#registry.metrics();
  }

  #setUsage({ collectors, totals }: UsageReport): void {
    for (const { origin, collected, restored, lost } of collectors) {
      this.#set('usage_collected_total', 'Requests that were collected since the start', collected, { origin });
      this.#set('usage_restored_total', 'Requests that CLIProxyAPI had lost and got back', restored, { origin });
      this.#set('usage_lost_total', 'Requests that were counted and never told', lost, { origin });
    }
    for (const { name: model, requests, failed, input, output, cached } of totals) {
      this.#set('usage_requests_total', 'Requests in the ledger', requests - failed, { model, outcome: 'success' });
      this.#set('usage_requests_total', 'Requests in the ledger', failed, { model, outcome: 'failed' });
      for (const [kind, count] of Object.entries({ input, output, cached }))
        this.#set('usage_tokens_total', 'Tokens in the ledger; cached ones are a part of the input', count, { model, kind });
    }
  }

  #setReport({ version, store, engine, custody, mirrors, neighbour, usage }: DaemonReport): void {
    if (usage !== undefined) this.#setUsage(usage);
    this.#set('info', 'Version, and kind of the authority', 1, { version, store: store.split(':')[0] ?? '' });
    this.#set('documents', 'Documents that the workspace has in common with the authority', engine.documents);
    this.#set('under_way', 'Documents that wait or are being worked on', engine.underWay);
    this.#set('last_sync_timestamp_seconds', 'When everything was settled last', (engine.lastSync ?? 0) / 1000);
    this.#set('authority_up', AUTHORITY_UP, engine.outage === undefined ? 1 : 0);
    for (const [action, count] of Object.entries(engine.counts))
      this.#set(
        'actions_total',
        'What was done with documents; conflicts are merges in which a value lost, forks those in which a grant did',
        count,
        { action },
      );
    for (const side of ['workspace', 'store'])
      this.#set(
        'refused_documents',
        'Documents that cannot be replicated as they are',
        engine.refusals.filter((each) => each.side === side).length,
        { side },
      );
    this.#set('frozen_deletions', 'Deletions that wait, for they look like an accident', engine.frozenDeletions.length);
    for (const { name, problem, waiting, behindSince, recovered } of mirrors) {
      this.#set('mirror_up', '0 while a mirror is in trouble', problem === undefined ? 1 : 0, { mirror: name });
      this.#set('mirror_waiting', 'Documents that wait to be copied to a mirror', waiting, { mirror: name });
      this.#set(
        'mirror_lag_seconds',
        'For how long the oldest of them waits',
        behindSince === undefined ? 0 : (Date.now() - behindSince) / 1000,
        { mirror: name },
      );
      this.#set('mirror_recovered_total', 'Documents that the authority got back from a mirror', recovered, { mirror: name });
    }
    if (neighbour !== undefined) this.#set('cliproxy_up', '1 when CLIProxyAPI answers beside this replica', neighbour.answers ? 1 : 0);
    if (custody !== undefined) this.#setCustody(custody);
  }

  #setCustody({ visits, overdue, counts }: NonNullable<DaemonReport['custody']>): void {
    for (const [outcome, count] of Object.entries(counts.visits))
      this.#set('visits_total', 'Visits of refresh tokens, by outcome', count, { outcome });
    for (const [healing, count] of Object.entries(counts.healings))
      this.#set('healings_total', 'What was done about access tokens that died before their time', count, { healing });
    this.#set('visits_open', 'Visits that go on, the watch after them included', visits.length);
    const ages = visits.map(({ began }) => (Date.now() - began) / 1000);
    this.#set('oldest_claim_age_seconds', 'Since when the oldest of them goes on', Math.max(0, ...ages));
    this.#set('overdue_credentials', 'Credentials that should have been refreshed', overdue.length);
    this.#set('echoes_total', 'Sealed files that came back whole', counts.echoes);
    this.#set('claims_taken_over_total', 'Claims of replicas that did not come back', counts.takenOver);
    this.#set('token_in_workspace_seconds_total', 'For how long refresh tokens stood in the workspace', counts.wholeMs / 1000);
  }

  #set(name: string, help: string, value: number, labels: Readonly<Record<string, string>> = {}): void {
    let gauge = this.#gauges.get(name);
    if (gauge === undefined) {
      gauge = new Gauge({ name: PREFIX + name, help, labelNames: Object.keys(labels), registers: [this.#registry] });
      this.#gauges.set(name, gauge);
    }
    gauge.set(labels, value);
  }
}
