import type { Clock } from '@tokenmirror/core';
import type { Measured } from './facts.js';

/** What a request used, as it is told to whoever asks. */
export interface UsageRecord {
  readonly timestamp: string;
  readonly latency_ms: number;
  readonly source: string;
  readonly auth_index: string;
  readonly tokens: UsageTokens;
  readonly failed: boolean;
  readonly provider: string;
  readonly model: string;
  readonly endpoint: string;
  readonly auth_type: string;
  readonly api_key: string;
  readonly request_id: string;
  readonly client_ip: string;
  readonly user_agent: string;
}

interface UsageTokens {
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly reasoning_tokens: number;
  readonly cached_tokens: number;
  readonly total_tokens: number;
}

/** One entry of the statistics that 6.9 keeps. */
interface Detail {
  readonly timestamp: string;
  readonly latency_ms?: number;
  readonly source: string;
  readonly auth_index: string;
  readonly tokens: UsageTokens;
  readonly failed: boolean;
}

interface Snapshot {
  readonly apis?: Readonly<Record<string, { readonly models?: Readonly<Record<string, { readonly details?: readonly Detail[] }>> }>>;
}

export interface UsageBookParts {
  readonly clock: Clock;
  readonly measured: Measured;
  readonly isOn: () => boolean;
  readonly retentionSeconds: () => number;
}

interface Kept {
  readonly api: string;
  readonly model: string;
  readonly detail: Detail;
}

/** Usage as both eras tell it: statistics in memory with export and import (6.9), and a queue that is emptied by reading (both, over HTTP from 6.10.8 on). */
export class UsageBook {
  readonly #parts: UsageBookParts;
  #kept: Kept[] = [];
  #queue: { readonly at: number; readonly text: string }[] = [];
  #subscribers = new Set<(text: string) => void>();
  #sequence = 0;

  constructor(parts: UsageBookParts) {
    this.#parts = parts;
  }

  /** True where statistics are kept in memory. */
  get keepsStatistics(): boolean {
    return this.#parts.measured.flavour === '6.9' && this.#parts.measured.has('usage-export');
  }

  note(record: Omit<UsageRecord, 'timestamp' | 'request_id'>): void {
    const { measured, isOn, clock } = this.#parts;
    if (!isOn() && measured.has('usage-needs-switch')) return;
    this.#sequence += 1;
    const timestamp = localInstant(clock.now(), this.#sequence);
    const full: UsageRecord = { timestamp, ...record, request_id: this.#sequence.toString(16).padStart(8, '0') };
    if (this.keepsStatistics) {
      const { latency_ms, source, auth_index, tokens, failed } = full;
      const detail = { timestamp, latency_ms, source, auth_index, tokens, failed };
      this.#kept.push({ api: full.api_key, model: full.model, detail });
    }
    const text = JSON.stringify(full);
    if (this.#subscribers.size > 0 && measured.has('usage-subscribers-starve')) for (const tell of this.#subscribers) tell(text);
    else {
      for (const tell of this.#subscribers) tell(text);
      this.#queue.push({ at: clock.monotonic(), text });
    }
  }

  /** At most so many records, oldest first; they are gone then. */
  pop(count: number): string[] {
    const { measured, clock, retentionSeconds } = this.#parts;
    const oldest = clock.monotonic() - retentionSeconds() * 1000;
    if (measured.has('usage-queue-retention')) this.#queue = this.#queue.filter(({ at }) => at >= oldest);
    const popped = this.#queue.slice(0, count).map(({ text }) => text);
    if (measured.has('usage-queue-pops')) this.#queue = this.#queue.slice(popped.length);
    return popped;
  }

  /** Returns how to end it. */
  subscribe(tell: (text: string) => void): () => void {
    this.#subscribers.add(tell);
    return () => this.#subscribers.delete(tell);
  }

  export(): unknown {
    return { version: 1, exported_at: new Date(this.#parts.clock.now()).toISOString(), usage: this.#statistics() };
  }

  import(body: unknown): unknown {
    const usage = (body as { usage?: Snapshot } | undefined)?.usage ?? {};
    const known = new Set(this.#kept.map(tuple));
    let added = 0;
    let skipped = 0;
    for (const [api, { models = {} }] of Object.entries(usage.apis ?? {}))
      for (const [model, { details = [] }] of Object.entries(models))
        for (const detail of details) {
          const kept = { api, model, detail };
          if (known.has(tuple(kept)) && this.#parts.measured.has('usage-import-merges')) {
            skipped += 1;
            continue;
          }
          known.add(tuple(kept));
          this.#kept.push(kept);
          added += 1;
        }
    const failed = this.#kept.filter(({ detail }) => detail.failed).length;
    return { added, skipped, total_requests: this.#kept.length, failed_requests: failed };
  }

  #statistics(): unknown {
    const apis: Record<string, { total_requests: number; total_tokens: number; models: Record<string, unknown> }> = {};
    for (const { api, model } of this.#kept) {
      const ofApi = this.#kept.filter((each) => each.api === api);
      const ofModel = ofApi.filter((each) => each.model === model);
      const entry = (apis[api] ??= { total_requests: ofApi.length, total_tokens: tokensOf(ofApi), models: {} });
      entry.models[model] ??= {
        total_requests: ofModel.length,
        total_tokens: tokensOf(ofModel),
        details: ofModel.map(({ detail }) => detail),
      };
    }
    const failures = this.#kept.filter(({ detail }) => detail.failed).length;
    return {
      total_requests: this.#kept.length,
      success_count: this.#kept.length - failures,
      failure_count: failures,
      total_tokens: tokensOf(this.#kept),
      apis,
      requests_by_day: {},
      requests_by_hour: {},
      tokens_by_day: {},
      tokens_by_hour: {},
    };
  }
}

/** What makes two entries the same: the instant to the nanosecond, whatever its offset, and all the rest. */
function tuple({ api, model, detail }: Kept): string {
  const { timestamp, source, auth_index, failed, tokens } = detail;
  const nanoseconds = (/\.(\d+)/.exec(timestamp)?.[1] ?? '').padEnd(9, '0').slice(0, 9);
  const seconds = Math.floor(Date.parse(timestamp.replace(/\.\d+/, '')) / 1000);
  const counts = [tokens.input_tokens, tokens.output_tokens, tokens.reasoning_tokens, tokens.cached_tokens, tokens.total_tokens];
  return JSON.stringify([api, model, seconds, nanoseconds, source, auth_index, failed, ...counts]);
}

function tokensOf(kept: readonly Kept[]): number {
  return kept.reduce((sum, { detail }) => sum + detail.tokens.total_tokens, 0);
}

/** As Go writes an instant two hours east of Greenwich, with nanoseconds. */
function localInstant(now: number, sequence: number): string {
  const local = new Date(now + 2 * 3_600_000).toISOString().slice(0, -1);
  return `${local}${String((sequence * 7919) % 1_000_000).padStart(6, '0')}+02:00`;
}
