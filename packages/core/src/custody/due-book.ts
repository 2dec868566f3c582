import type { DocumentKey } from '../documents/document-key.js';
import type { Fingerprint } from '../documents/hasher.js';
import type { JsonObject } from '../documents/strict-json.js';
import type { ProviderPolicy } from './provider-policy.js';

/** What is known of a credential that may have to be refreshed. Instants are ms since the epoch. */
export interface Credential {
  readonly grant: Fingerprint | undefined;
  readonly dueAt: number | undefined;
  readonly isDisabled: boolean;
  /** Its provider's refresh tokens work once, and CLIProxyAPI refreshes it. */
  readonly isRefreshed: boolean;
}

/** When each credential has to be refreshed, and when this replica may try. */
export class DueBook {
  readonly #policy: ProviderPolicy;
  readonly #credentials = new Map<DocumentKey, Credential>();
  /** Grants whose access token died before its time. */
  readonly #asked = new Map<DocumentKey, Fingerprint>();

  constructor(policy: ProviderPolicy) {
    this.#policy = policy;
  }

  get(key: DocumentKey): Credential | undefined {
    return this.#credentials.get(key);
  }

  /** Returns whether it falls due at another time than was known. */
  note(key: DocumentKey, fields: JsonObject, grant: Fingerprint | undefined): boolean {
    const before = this.#credentials.get(key);
    const isRefreshed = this.#policy.sharingOf(fields) === 'single-use';
    const dueAt = isRefreshed ? this.#policy.dueAt(fields) : undefined;
    this.#credentials.set(key, {
      grant,
      dueAt,
      isDisabled: fields['disabled'] === true,
      isRefreshed,
    });
    return before?.dueAt !== dueAt;
  }

  forget(key: DocumentKey): void {
    this.#credentials.delete(key);
  }

  ask(key: DocumentKey, grant: Fingerprint): void {
    this.#asked.set(key, grant);
  }

  isAsked(key: DocumentKey): boolean {
    const grant = this.#credentials.get(key)?.grant;
    return grant !== undefined && this.#asked.get(key) === grant;
  }

  isDue(key: DocumentKey, now: number): boolean {
    const credential = this.#credentials.get(key);
    if (credential === undefined || credential.isDisabled) return false;
    return this.isAsked(key) || (credential.dueAt !== undefined && credential.dueAt <= now);
  }

  due(now: number): DocumentKey[] {
    return [...this.#credentials.keys()].filter((key) => this.isDue(key, now));
  }

  /** ms from `now` until the next one is due; `undefined` when none will be. */
  nextIn(now: number): number | undefined {
    let next = Infinity;
    for (const { dueAt, isDisabled } of this.#credentials.values())
      if (!isDisabled && dueAt !== undefined && dueAt > now) next = Math.min(next, dueAt - now);
    return next === Infinity ? undefined : next;
  }
}
