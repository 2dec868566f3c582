import type { Clock } from '@tokenmirror/core';
import { textField, type CredentialPool, type LoadedCredential } from './credential-pool.js';
import type { Measured } from './facts.js';
import type { Chance, Network, UpstreamAnswer, UpstreamRequest } from './ports.js';
import type { Refresher } from './refresher.js';

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
  async complete(body: string): Promise<Answer> {
    const model = modelIn(body);
    const type = model.startsWith('claude') ? 'claude' : 'codex';
    const usable = this.#usable((one) => one === type);
    const credential = usable[(this.#turn += 1) % Math.max(1, usable.length)];
    if (credential === undefined) return failure(503, 'auth_unavailable: no auth available');
    const first = await this.#ask(credential, model, body);
    const answer = first.status === 401 ? await this.#afterDeadToken(credential, first, model, body) : first;
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
