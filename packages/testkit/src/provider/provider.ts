import { randomBytes } from 'node:crypto';
import type { Clock } from '@tokenmirror/core';
import { systemTime } from '../cliproxy/node-ports.js';

export type Service = 'claude' | 'codex';

export interface ProviderRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: string;
}

export interface ProviderAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body: string;
}

/** What happened at the provider, for a test to compare. */
export interface ProviderCounts {
  /** Refreshes that were answered with a new grant. */
  rotations: number;
  /** Used refresh tokens that were presented again; each revokes its family. */
  reuses: number;
  /** Token calls, whatever became of them. */
  tokenCalls: number;
  /** Messages that were answered, by status. */
  messages: Record<number, number>;
}

/** What goes wrong on purpose, until it is changed again. */
export interface ProviderTrouble {
  tokenDelayMs: number;
  messageDelayMs: number;
  /** The next so many token calls are answered with this status, and change nothing. */
  tokenErrors: { status: number; times: number };
  /** The next so many token calls rotate the token, and the answer never arrives. */
  lostReplies: number;
}

interface Family {
  readonly service: Service;
  readonly email: string;
  current: string;
  readonly used: Set<string>;
  accessTokens: Set<string>;
  isRevoked: boolean;
}

export interface IssuedGrant {
  readonly access_token: string;
  readonly refresh_token: string;
  readonly id_token?: string;
  readonly expires_in: number;
}

/** How long an access token lives, in seconds. */
const LIFETIME_S: Readonly<Record<Service, number>> = { claude: 8 * 3600, codex: 10 * 24 * 3600 };

/**
 * Claude and Codex as far as CLIProxyAPI sees them: refresh tokens that work once, families that are revoked when a used one is presented, and messages for
 * access tokens that live. Plain state; the way to it is in `provider-server`.
 */
export class Provider {
  readonly #clock: Clock;
  readonly #random: () => string;
  /** How long access tokens live, in seconds; to be changed by a test that cannot wait. */
  readonly lifetimes: Record<Service, number> = { ...LIFETIME_S };
  readonly counts: ProviderCounts = { rotations: 0, reuses: 0, tokenCalls: 0, messages: {} };
  readonly trouble: ProviderTrouble = { tokenDelayMs: 0, messageDelayMs: 0, tokenErrors: { status: 503, times: 0 }, lostReplies: 0 };
  readonly #byRefreshToken = new Map<string, Family>();
  readonly #byAccessToken = new Map<string, Family>();

  /** `random` makes what nobody can guess. */
  constructor(clock: Clock = systemTime, random: () => string = () => randomBytes(18).toString('base64url')) {
    this.#clock = clock;
    this.#random = random;
  }

  /** A login: a family of its own. */
  issue(service: Service, email: string): IssuedGrant {
    return this.#grant({ service, email, current: '', used: new Set(), accessTokens: new Set(), isRevoked: false });
  }

  /** Ends the life of an access token before its time. */
  kill(accessToken: string): void {
    this.#byAccessToken.get(accessToken)?.accessTokens.delete(accessToken);
  }

  /** Every access token that was issued for an account. */
  tokensOf(email: string): string[] {
    return [...this.#byAccessToken].filter(([, family]) => family.email === email).map(([token]) => token);
  }

  isAlive(accessToken: string): boolean {
    const family = this.#byAccessToken.get(accessToken);
    return family !== undefined && !family.isRevoked && family.accessTokens.has(accessToken);
  }

  emailOf(refreshToken: string): string | undefined {
    return this.#byRefreshToken.get(refreshToken)?.email;
  }

  /** The newest refresh token of the login that this one belongs to. */
  currentOf(refreshToken: string): string | undefined {
    return this.#byRefreshToken.get(refreshToken)?.current;
  }

  /** True for a refresh token that would be exchanged. */
  isCurrent(refreshToken: string): boolean {
    const family = this.#byRefreshToken.get(refreshToken);
    return family !== undefined && !family.isRevoked && family.current === refreshToken;
  }

  isRevoked(refreshToken: string): boolean {
    return this.#byRefreshToken.get(refreshToken)?.isRevoked ?? true;
  }

  /** `undefined`: the answer is lost. */
  async answer(request: ProviderRequest): Promise<ProviderAnswer | undefined> {
    const path = request.path.split('?')[0];
    if (request.method === 'POST' && path === '/v1/oauth/token') return this.#token(request, 'claude');
    if (request.method === 'POST' && path === '/oauth/token') return this.#token(request, 'codex');
    if (request.method === 'GET' && path === '/api/oauth/profile') return this.#profile(request);
    if (request.method === 'POST' && path === '/v1/messages') return this.#message(request, 'claude');
    if (request.method === 'POST' && path === '/backend-api/codex/responses') return this.#message(request, 'codex');
    return json(404, { error: 'not found' });
  }

  async #token({ body, headers }: ProviderRequest, service: Service): Promise<ProviderAnswer | undefined> {
    this.counts.tokenCalls += 1;
    const { tokenDelayMs, tokenErrors } = this.trouble;
    if (tokenErrors.times > 0) {
      tokenErrors.times -= 1;
      return json(tokenErrors.status, { error: 'temporarily_unavailable' }, tokenErrors.status === 429 ? { 'retry-after': '1' } : {});
    }
    const isForm = (headers['content-type'] ?? '').includes('urlencoded');
    const presented = isForm
      ? new URLSearchParams(body).get('refresh_token')
      : (JSON.parse(body) as { refresh_token?: string }).refresh_token;
    const family = this.#byRefreshToken.get(presented ?? '');
    if (family === undefined || presented === null || presented === undefined) return refusal(service);
    if (family.used.has(presented)) {
      this.counts.reuses += 1;
      family.isRevoked = true;
    }
    if (family.isRevoked) return refusal(service);
    family.used.add(presented);
    const grant = this.#grant(family);
    this.counts.rotations += 1;
    await this.#pause(tokenDelayMs);
    if (this.trouble.lostReplies > 0) {
      this.trouble.lostReplies -= 1;
      return undefined;
    }
    return json(200, { ...grant, token_type: 'Bearer', scope: 'user:inference', ...accountOf(family) });
  }

  #profile({ headers }: ProviderRequest): ProviderAnswer {
    const family = this.#familyOf(headers);
    if (family === undefined) return deadToken();
    const { account, organization } = accountOf(family);
    return json(200, { account: { uuid: account.uuid, email: family.email }, organization });
  }

  async #message({ headers, body }: ProviderRequest, service: Service): Promise<ProviderAnswer> {
    await this.#pause(this.trouble.messageDelayMs);
    const family = this.#familyOf(headers);
    const id = this.#random();
    const answer = family === undefined ? deadToken() : service === 'claude' ? claudeMessage(id, body) : codexEvents(id, body);
    this.counts.messages[answer.status] = (this.counts.messages[answer.status] ?? 0) + 1;
    return answer;
  }

  #familyOf(headers: ProviderRequest['headers']): Family | undefined {
    const token = (headers['authorization'] ?? '').replace(/^Bearer /i, '');
    return this.isAlive(token) ? this.#byAccessToken.get(token) : undefined;
  }

  #grant(family: Family): IssuedGrant {
    const access = family.service === 'claude' ? `sk-ant-oat01-${this.#random()}` : jwt({ iat: this.#seconds(), jti: this.#random() });
    const refresh = family.service === 'claude' ? `sk-ant-ort01-${this.#random()}` : `rt_${this.#random()}`;
    family.current = refresh;
    family.accessTokens.add(access);
    this.#byRefreshToken.set(refresh, family);
    this.#byAccessToken.set(access, family);
    const claims = {
      iat: this.#seconds(),
      email: family.email,
      'https://api.openai.com/auth': { chatgpt_account_id: `account-${family.email}`, chatgpt_plan_type: 'plus' },
    };
    return {
      access_token: access,
      refresh_token: refresh,
      ...(family.service === 'codex' ? { id_token: jwt(claims) } : {}),
      expires_in: this.lifetimes[family.service],
    };
  }

  #seconds(): number {
    return Math.floor(this.#clock.now() / 1000);
  }

  #pause(ms: number): Promise<void> {
    return ms === 0 ? Promise.resolve() : new Promise((resolve) => this.#clock.after(ms, resolve));
  }
}

function accountOf({ email }: Family) {
  return {
    account: { uuid: `uuid-of-${email}`, email_address: email },
    organization: { uuid: `org-of-${email}`, name: `Organization of ${email}` },
  };
}

function refusal(service: Service): ProviderAnswer {
  return service === 'codex'
    ? json(400, { error: { code: 'refresh_token_reused', message: 'refresh_token_reused: the token was used already' } })
    : json(400, { error: 'invalid_grant', error_description: 'Refresh token not found or invalid' });
}

function deadToken(): ProviderAnswer {
  return json(401, { type: 'error', error: { type: 'authentication_error', message: 'Invalid bearer token' } });
}

function claudeMessage(id: string, body: string): ProviderAnswer {
  const { model, stream } = JSON.parse(body) as { model?: string; stream?: boolean };
  const usage = { input_tokens: 8, output_tokens: 2 };
  const message = {
    id: `msg_${id}`,
    type: 'message',
    role: 'assistant',
    model,
    content: [{ type: 'text', text: 'Hello.' }],
    stop_reason: 'end_turn',
    usage,
  };
  if (stream !== true) return json(200, message);
  return events([
    ['message_start', { type: 'message_start', message: { ...message, content: [], stop_reason: null } }],
    ['content_block_start', { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } }],
    ['content_block_delta', { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'Hello.' } }],
    ['content_block_stop', { type: 'content_block_stop', index: 0 }],
    ['message_delta', { type: 'message_delta', delta: { stop_reason: 'end_turn' }, usage }],
    ['message_stop', { type: 'message_stop' }],
  ]);
}

function codexEvents(id: string, body: string): ProviderAnswer {
  const { model } = JSON.parse(body) as { model?: string };
  const output = [{ type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'Hello.' }] }];
  const usage = { input_tokens: 8, output_tokens: 2, total_tokens: 10 };
  const response = { id: `resp_${id}`, object: 'response', status: 'completed', model, output, usage };
  return events([['response.completed', { type: 'response.completed', response }]]);
}

function events(list: readonly (readonly [string, unknown])[]): ProviderAnswer {
  const body = list.map(([name, data]) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`).join('');
  return { status: 200, headers: { 'content-type': 'text/event-stream' }, body };
}

function json(status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): ProviderAnswer {
  return { status, headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) };
}

function jwt(claims: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'none', typ: 'JWT' })}.${part(claims)}.emulated`;
}
