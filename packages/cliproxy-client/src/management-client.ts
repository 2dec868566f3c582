import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import PQueue from 'p-queue';
import type { Clock } from '@tokenmirror/core';
import { Gate, type ManagementTarget, type RefusedKeys } from './gate.js';
import { isLocal } from './probe.js';
import type { Outcome, Refusal } from './refusal.js';

export interface ManagementClientParts {
  /** Read before every call, for the config may change; `undefined` where nobody knows where CLIProxyAPI is, or no key was given. */
  readonly target: () => ManagementTarget | undefined;
  readonly clock: Clock;
  readonly refusedKeys: RefusedKeys;
}

export interface ManagementCall {
  readonly method: 'GET' | 'PUT' | 'PATCH' | 'POST' | 'DELETE';
  /** Below `/v0/management`, with its query. */
  readonly path: string;
  readonly body?: unknown;
}

const TIMEOUT_MS = 15_000;
/** Each call costs CLIProxyAPI about 60 ms of computing: at most so many in a second. */
const CALLS_A_SECOND = 4;
/** There in every version. */
const ALWAYS_THERE = '/usage-statistics-enabled';
const LARGEST_ANSWER = 64 * 1024 * 1024;

interface Answer {
  readonly status: number;
  readonly text: string;
}

/**
 * CLIProxyAPI's management API, without ever being banned by it: one connection, few calls, none after the first refusal of the key. Calls that change nothing are tried
 * twice; of the others nobody knows whether they were done.
 */
export class ManagementClient {
  readonly #parts: ManagementClientParts;
  readonly #queue = new PQueue({ concurrency: 1, interval: 1000, intervalCap: CALLS_A_SECOND });
  readonly #agents = {
    'http:': new HttpAgent({ keepAlive: true, maxSockets: 1 }),
    'https:': new HttpsAgent({ keepAlive: true, maxSockets: 1 }),
  };
  readonly gate: Gate;
  #version: string | undefined;

  constructor(parts: ManagementClientParts) {
    this.#parts = parts;
    this.gate = new Gate(parts.clock, parts.refusedKeys);
  }

  /** What `X-CPA-VERSION` said last. */
  get version(): string | undefined {
    return this.#version;
  }

  target(): ManagementTarget | undefined {
    return this.#parts.target();
  }

  /** The parsed body of the answer, text where it is no JSON. */
  call(call: ManagementCall): Promise<Outcome<unknown>> {
    return this.#queue.add(async () => {
      const target = this.#parts.target();
      if (target === undefined) return refused({ kind: 'unreachable', reason: 'nobody knows where it is' });
      const closed = this.gate.closed(target);
      if (closed !== undefined) return refused(closed);
      const answer = await this.#sendSafely(target, call);
      if (!('text' in answer)) return refused(answer);
      const outcome = await this.#outcomeOf(target, call, answer);
      this.gate.note(target, outcome.ok ? undefined : outcome.refusal);
      return outcome;
    });
  }

  /** Work of another kind that is authenticated with the key, such as a connection to the RESP port: never beside a call, so that a wrong key is tried once. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#queue.add(work);
  }

  close(): void {
    this.#queue.clear();
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }

  async #sendSafely(target: ManagementTarget, call: ManagementCall): Promise<Answer | Refusal> {
    try {
      return await this.#send(target, call);
    } catch (error) {
      if (call.method !== 'GET' || !this.gate.isProven(target)) return unreachable(error);
      return this.#send(target, call).catch(unreachable);
    }
  }

  async #outcomeOf(target: ManagementTarget, call: ManagementCall, { status, text }: Answer): Promise<Outcome<unknown>> {
    const body = parsed(text);
    if (status >= 200 && status < 300) return { ok: true, value: body };
    const reason = errorIn(body) ?? `status ${String(status)}`;
    if (status === 401) return refused({ kind: 'wrong-key' });
    if (status === 403) return refused(this.gate.refusalIn(reason) ?? { kind: 'not-local' });
    if (status === 404) return refused(errorIn(body) === undefined ? await this.#absence(target, call) : { kind: 'not-found' });
    return refused({ kind: status < 500 ? 'rejected' : 'failed', status, reason });
  }

  /** A 404 of the whole API, or of this call only. */
  async #absence(target: ManagementTarget, call: ManagementCall): Promise<Refusal> {
    if (call.path === ALWAYS_THERE) return { kind: 'off' };
    const answer = await this.#sendSafely(target, { method: 'GET', path: ALWAYS_THERE });
    if (!('text' in answer)) return answer;
    return answer.status === 404 ? { kind: 'off' } : { kind: 'no-such-call' };
  }

  #send({ url, key }: ManagementTarget, { method, path, body }: ManagementCall): Promise<Answer> {
    const isTls = url.protocol === 'https:';
    const text = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body);
    const headers = {
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      'content-length': String(Buffer.byteLength(text)),
    };
    const options = {
      method,
      headers,
      agent: isTls ? this.#agents['https:'] : this.#agents['http:'],
      rejectUnauthorized: !isLocal(url),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    };
    return new Promise((resolve, reject) => {
      const sent = (isTls ? httpsRequest : httpRequest)(new URL(`/v0/management${path}`, url), options, (response) => {
        textOf(response).then((answer) => {
          const version = response.headers['x-cpa-version'];
          if (typeof version === 'string') this.#version = version;
          resolve({ status: response.statusCode ?? 0, text: answer });
        }, reject);
      });
      sent.on('error', reject);
      sent.end(text);
    });
  }
}

async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > LARGEST_ANSWER) throw new Error('the answer is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function refused(refusal: Refusal): Outcome<never> {
  return { ok: false, refusal };
}

/** The code of what went wrong: the message of a library could hold more than it should. */
function unreachable(error: unknown): Refusal {
  const { code, name } = error as NodeJS.ErrnoException;
  return { kind: 'unreachable', reason: name === 'TimeoutError' || name === 'AbortError' ? 'no answer in time' : (code ?? name) };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function errorIn(body: unknown): string | undefined {
  const error = typeof body === 'object' && body !== null ? (body as { error?: unknown }).error : undefined;
  return typeof error === 'string' ? error : undefined;
}
