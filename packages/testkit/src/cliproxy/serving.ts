import type { Clock } from '@tokenmirror/core';
import { textField, type CredentialPool, type LoadedCredential } from './credential-pool.js';
import type { Measured } from './facts.js';
import type { Chance, Network, UpstreamAnswer, UpstreamRequest } from './ports.js';
import type { Refresher } from './refresher.js';
import type { UsageBook, UsageRecord } from './usage-book.js';

const SUSPENSION_MS = 30 * 60_000;
const REQUEST_MS = 60_000;
const MODELS: readonly { readonly id: string; readonly type: string }[] = [
  { id: 'claude-sonnet-4-5-20250929', type: 'claude' },
  { id: 'gpt-5.4', type: 'codex' },
];

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: unknown;
}

export interface ServingParts {
  readonly pool: CredentialPool;
  readonly refresher: Refresher;
  readonly network: Network;
  readonly clock: Clock;
  readonly chance: Chance;
  readonly measured: Measured;
  readonly proxyUrl: () => string | undefined;
  readonly failed: (failure: Failure) => void;
  readonly usage: UsageBook;
}

/** What a client sent, as usage tells of it. */
export interface ClientCall {
  readonly apiKey: string;
  readonly path: string;
  readonly body: string;
  readonly address: string;
  readonly userAgent: string;
}

/** A failed request, as the channel `errors` tells of it. */
export interface Failure {
  readonly auth_id: string;
  readonly status_code: number;
  readonly auth_status: { readonly unavailable: boolean; readonly next_retry_after?: string };
}

/** Answers clients through the credentials in memory, one after the other. */
export class Serving {
  readonly #parts: ServingParts;
  #turn = 0;

  constructor(parts: ServingParts) {
    this.#parts = parts;
  }

  models(): Answer {
    const types = new Set(this.#usable(() => true).map(({ fields }) => textField(fields, 'type')));
    return {
      status: 200,
      body: { object: 'list', data: MODELS.filter(({ type }) => types.has(type)).map(({ id }) => ({ id, object: 'model' })) },
    };
  }

  /** A message or a chat completion, by the model that it names. */
  async complete(call: ClientCall): Promise<Answer> {
    const { body } = call;
    const model = modelIn(body);
    const type = model.startsWith('claude') ? 'claude' : 'codex';
    const usable = this.#usable((one) => one === type);
    const credential = usable[(this.#turn += 1) % Math.max(1, usable.length)];
    if (credential === undefined) return failure(503, 'auth_unavailable: no auth available');
    const begun = this.#parts.clock.monotonic();
    const first = await this.#ask(credential, model, body);
    const answer = first.status === 401 ? await this.#afterDeadToken(credential, first, model, body) : first;
    this.#noteUsage(credential, call, model, answer, begun);
    this.#finish(credential, answer.status === 200);
    if (answer.status !== 200) this.#tellFailure(credential, answer);
    return answer.status === 200
      ? { status: 200, body: type === 'claude' ? JSON.parse(answer.body) : chatCompletion(answer.body, model) }
      : { status: answer.status, body: JSON.parse(answer.body) };
  }

  async #afterDeadToken(credential: LoadedCredential, answer: UpstreamAnswer & { readonly token: string }, model: string, body: string) {
    const { measured, refresher, clock } = this.#parts;
    const refreshes = (measured.flavour === '7.2') === measured.has('refresh-on-401');
    const isCurrent = textField(credential.fields, 'access_token') === answer.token;
    if (refreshes && isCurrent && textField(credential.fields, 'refresh_token') !== '' && (await refresher.refresh(credential))) {
      return this.#ask(credential, model, body);
    }
    if (measured.has('suspends-dead-token')) credential.suspendedUntil = clock.monotonic() + SUSPENSION_MS;
    return answer;
  }

  async #ask(credential: LoadedCredential, model: string, body: string): Promise<UpstreamAnswer & { readonly token: string }> {
    const token = textField(credential.fields, 'access_token');
    try {
      return { ...(await this.#parts.network.send(messageRequest(credential, token, model, body), this.#parts.proxyUrl())), token };
    } catch {
      return { status: 502, headers: {}, body: JSON.stringify({ error: { message: 'the provider did not answer' } }), token };
    }
  }

  #noteUsage(credential: LoadedCredential, call: ClientCall, model: string, { status, body }: UpstreamAnswer, begun: number): void {
    const { clock, usage } = this.#parts;
    const failed = status !== 200;
    if (failed) credential.failed += 1;
    else credential.succeeded += 1;
    const type = textField(credential.fields, 'type');
    usage.note({
      latency_ms: Math.round(clock.monotonic() - begun),
      source: textField(credential.fields, 'email'),
      auth_index: credential.path,
      tokens: tokensIn(failed ? '' : body),
      failed,
      provider: type,
      model,
      endpoint: `POST ${call.path}`,
      auth_type: 'oauth',
      api_key: call.apiKey,
      client_ip: call.address,
      user_agent: call.userAgent,
    });
  }

  #tellFailure(credential: LoadedCredential, { status, body }: UpstreamAnswer): void {
    const { clock, failed } = this.#parts;
    credential.message = body;
    const left = credential.suspendedUntil - clock.monotonic();
    const retry = left > 0 ? { next_retry_after: new Date(clock.now() + left).toISOString() } : {};
    failed({ auth_id: credential.path, status_code: status, auth_status: { unavailable: left > 0, ...retry } });
  }

  /** The end of every request: what is in memory goes over the file. */
  #finish(credential: LoadedCredential, succeeded: boolean): void {
    const { pool, measured, chance } = this.#parts;
    const inMemory = pool.get(credential.path);
    if (inMemory === undefined) return;
    const needsDeviceIds = measured.flavour === '7.2' && measured.has('device-ids') && textField(inMemory.fields, 'type') === 'claude';
    if (succeeded && needsDeviceIds && inMemory.fields['claude_device_ids'] === undefined) {
      inMemory.fields = { ...inMemory.fields, claude_device_ids: [chance.id()] };
    }
    if (!measured.has('saves-after-requests')) return;
    if (inMemory.fields['disabled'] === true && measured.has('deleted-returns-disabled-does-not')) return;
    pool.save(inMemory);
  }

  #usable(isWanted: (type: string) => boolean): LoadedCredential[] {
    const now = this.#parts.clock.monotonic();
    return this.#parts.pool
      .all()
      .filter(
        ({ fields, suspendedUntil }) =>
          isWanted(textField(fields, 'type')) &&
          fields['disabled'] !== true &&
          suspendedUntil <= now &&
          textField(fields, 'access_token') !== '',
      );
  }
}

function messageRequest(credential: LoadedCredential, token: string, model: string, body: string): UpstreamRequest {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const common = { method: 'POST', headers, timeoutMs: REQUEST_MS } as const;
  if (textField(credential.fields, 'type') === 'claude') return { ...common, url: 'https://api.anthropic.com/v1/messages?beta=true', body };
  return {
    ...common,
    url: 'https://chatgpt.com/backend-api/codex/responses',
    body: JSON.stringify({
      model,
      stream: true,
      input: [{ type: 'message', role: 'user', content: [{ type: 'input_text', text: 'hi' }] }],
    }),
  };
}

/** What an OpenAI client gets for the event in which Codex completes. */
function chatCompletion(events: string, model: string): unknown {
  const data = events.split('\n').find((line) => line.startsWith('data: ') && line.includes('response.completed'));
  const { response } = JSON.parse(data?.slice('data: '.length) ?? '{"response":{}}') as {
    response: { id?: string; output?: { content?: { text?: string }[] }[]; usage?: unknown };
  };
  const content = response.output?.[0]?.content?.[0]?.text ?? '';
  const choices = [{ index: 0, message: { role: 'assistant', content }, finish_reason: 'stop' }];
  return { id: response.id, object: 'chat.completion', model, choices, usage: response.usage };
}

/** What the provider counted, whatever it calls it. */
function tokensIn(text: string): UsageRecord['tokens'] {
  const count = (...names: string[]): number =>
    Math.max(0, ...names.map((name) => Number(new RegExp(`"${name}"\\s*:\\s*(\\d+)`).exec(text)?.[1] ?? 0)));
  const [input, output] = [count('input_tokens', 'prompt_tokens'), count('output_tokens', 'completion_tokens')];
  return {
    input_tokens: input,
    output_tokens: output,
    reasoning_tokens: 0,
    cached_tokens: count('cache_read_input_tokens', 'cached_tokens'),
    total_tokens: input + output,
  };
}

function modelIn(body: string): string {
  try {
    const { model } = JSON.parse(body) as { model?: unknown };
    return typeof model === 'string' ? model : '';
  } catch {
    return '';
  }
}

function failure(status: number, message: string): Answer {
  return { status, body: { error: { message, type: 'server_error' } } };
}
