import type { Clock } from '@tokenmirror/core';
import { canonical, textField, type CredentialPool, type Fields, type LoadedCredential } from './credential-pool.js';
import { LEADS_MS, type Measured } from './facts.js';
import type { Network, UpstreamAnswer, UpstreamRequest } from './ports.js';

const CHECK_MS = 5000;
const ATTEMPTS = 3;
const ATTEMPT_MS = 30_000;
/** Before the second attempt; before the third it is twice as long. */
const RETRY_MS = 1000;
/** After a refresh that failed. */
const FAILURE_PAUSE_MS = 300_000;
/** Between two looks at a credential that has no refresh token. */
const NO_TOKEN_PAUSE_MS = 30_000;

export interface RefresherParts {
  readonly pool: CredentialPool;
  readonly network: Network;
  readonly clock: Clock;
  readonly measured: Measured;
  readonly proxyUrl: () => string | undefined;
}

/** Refreshes credentials: every 5 s those within the lead of their provider, and at once those that appear expired. */
export class Refresher {
  readonly #parts: RefresherParts;
  #cancel: () => void = () => undefined;
  #stopped = false;

  constructor(parts: RefresherParts) {
    this.#parts = parts;
  }

  start(): void {
    const check = (): void => {
      if (this.#stopped) return;
      for (const credential of this.#parts.pool.all()) this.#considerByLead(credential);
      this.#cancel = this.#parts.clock.after(CHECK_MS, check);
    };
    check();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  /** A credential appeared or changed. */
  considerExpired(credential: LoadedCredential): void {
    const { clock, measured } = this.#parts;
    if (!measured.has('refreshes-when-expired') || textField(credential.fields, 'refresh_token') === '') return;
    const expiry = expiryOf(credential.fields);
    const isHeldBack = credential.suspendedUntil > clock.monotonic() && !measured.has('expired-beats-suspension');
    if (expiry !== undefined && expiry <= clock.now() && !isHeldBack && this.#mayRefresh(credential)) void this.refresh(credential);
  }

  /** `true` when the credential has a new access token afterwards. */
  async refresh(credential: LoadedCredential): Promise<boolean> {
    const { pool, clock, measured } = this.#parts;
    if (credential.refreshing) return false;
    credential.refreshing = true;
    const begun = credential.fields;
    try {
      const grant = await this.#exchange(begun);
      if (grant === undefined) {
        if (measured.has('pauses-after-failure')) credential.pausedUntil = clock.monotonic() + FAILURE_PAUSE_MS;
        return false;
      }
      const isGone = pool.get(credential.path) === undefined;
      if (isGone && (measured.flavour === '7.2' || !measured.has('refresh-outlives-deletion'))) return false;
      if (!this.#survives(credential.fields)) return false;
      const settings = measured.has('refresh-keeps-old-settings') ? begun : credential.fields;
      pool.put(credential.path, { ...settings, ...grant });
      credential.suspendedUntil = 0;
      return true;
    } finally {
      credential.refreshing = false;
    }
  }

  #survives(now: Fields): boolean {
    return this.#parts.measured.has('refresh-outlives-removal') || textField(now, 'refresh_token') !== '';
  }

  #considerByLead(credential: LoadedCredential): void {
    const { clock, measured } = this.#parts;
    const { fields } = credential;
    const expiry = expiryOf(fields);
    const lead = LEADS_MS[textField(fields, 'type')];
    if (!measured.has('refreshes-within-lead') || expiry === undefined || lead === undefined || expiry - lead > clock.now()) return;
    if (!this.#mayRefresh(credential)) return;
    if (textField(fields, 'refresh_token') === '') {
      if (measured.has('sealed-pause')) credential.pausedUntil = clock.monotonic() + NO_TOKEN_PAUSE_MS;
      if (!measured.has('serves-without-refresh-token')) this.#parts.pool.forget(credential.path);
    } else void this.refresh(credential);
  }

  #mayRefresh(credential: LoadedCredential): boolean {
    const { clock, measured } = this.#parts;
    const isDisabled = credential.fields['disabled'] === true;
    const refreshesDisabled = (measured.flavour === '7.2') === measured.has('disabled-refresh');
    return !credential.refreshing && clock.monotonic() >= credential.pausedUntil && (!isDisabled || refreshesDisabled);
  }

  async #exchange(fields: Fields): Promise<Fields | undefined> {
    const { network, clock, measured, proxyUrl } = this.#parts;
    const request = tokenRequest(fields);
    if (request === undefined) return undefined;
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      if (attempt > 0) await new Promise<void>((resolve) => clock.after(RETRY_MS * attempt, resolve));
      let answer: UpstreamAnswer;
      try {
        answer = await network.send(request, proxyUrl());
      } catch {
        continue;
      }
      if (answer.status === 200) return grantIn(answer.body, fields, clock.now());
      if (answer.status >= 500 && !measured.has('retries-5xx')) return undefined;
      if (answer.body.includes('refresh_token_reused') && measured.has('used-token-is-final')) return undefined;
    }
    return undefined;
  }
}

function tokenRequest(fields: Fields): UpstreamRequest | undefined {
  const refreshToken = textField(fields, 'refresh_token');
  const common = { method: 'POST', timeoutMs: ATTEMPT_MS } as const;
  switch (textField(fields, 'type')) {
    case 'claude':
      return {
        ...common,
        url: 'https://platform.claude.com/v1/oauth/token',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          client_id: 'emulated-claude-client',
          grant_type: 'refresh_token',
          refresh_token: refreshToken,
          scope: 'user:profile user:inference',
        }),
      };
    case 'codex':
      return {
        ...common,
        url: 'https://auth.openai.com/oauth/token',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({
          client_id: 'emulated-codex-client',
          grant_type: 'refresh_token',
          refresh_token: refreshToken,
          scope: 'openid profile email',
        }).toString(),
      };
    default:
      return undefined;
  }
}

function grantIn(body: string, before: Fields, now: number): Fields {
  const answer = JSON.parse(body) as {
    access_token: string;
    refresh_token: string;
    id_token?: string;
    expires_in: number;
    organization?: { name?: string };
  };
  const { name } = answer.organization ?? {};
  return {
    access_token: answer.access_token,
    refresh_token: answer.refresh_token,
    ...(answer.id_token === undefined ? {} : { id_token: answer.id_token }),
    ...(name === undefined || canonical(before['organization_name']) === canonical(name) ? {} : { organization_name: name }),
    expired: rfc3339(now + answer.expires_in * 1000),
    last_refresh: rfc3339(now),
  };
}

/** With the resolution of a second, as CLIProxyAPI stamps. */
function rfc3339(instant: number): string {
  return new Date(instant).toISOString().replace(/\.\d+Z$/, 'Z');
}

function expiryOf(fields: Fields): number | undefined {
  const instant = Date.parse(textField(fields, 'expired'));
  return Number.isNaN(instant) ? undefined : instant;
}
