import type { JsonObject } from '../documents/strict-json.js';
import { expiryOf } from '../documents/grant.js';

/**
 * What a second use of a refresh token does: kills the login (`single-use`), or nothing (`reusable`). Of an `unknown` provider nobody has measured it,
 * so its credentials are not shared.
 */
export type Sharing = 'single-use' | 'reusable' | 'unknown';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** How long before its expiry CLIProxyAPI itself refreshes a credential, by `type`; measured. */
const LEADS_MS: Readonly<Record<string, number>> = { codex: 120 * HOUR_MS, claude: 4 * HOUR_MS };
const DEFAULT_LEAD_MS = 5 * MINUTE_MS;
/** How much sooner than CLIProxyAPI we are: inside its lead it looks at a credential every 30 s only, which would delay the visit. */
const AHEAD_MS = 10 * MINUTE_MS;

export const DEFAULT_SINGLE_USE: readonly string[] = ['claude', 'codex', 'kimi', 'xai'];
export const DEFAULT_REUSABLE: readonly string[] = ['antigravity', 'gemini', 'vertex'];

/** What is known of the providers, by the `type` of a credential. */
export class ProviderPolicy {
  readonly #singleUse: ReadonlySet<string>;
  readonly #reusable: ReadonlySet<string>;

  constructor(singleUse: Iterable<string> = DEFAULT_SINGLE_USE, reusable: Iterable<string> = DEFAULT_REUSABLE) {
    this.#singleUse = new Set(singleUse);
    this.#reusable = new Set(reusable);
  }

  sharingOf({ type }: JsonObject): Sharing {
    if (typeof type !== 'string') return 'unknown';
    return this.#reusable.has(type) ? 'reusable' : this.#singleUse.has(type) ? 'single-use' : 'unknown';
  }

  /** When a visit is due, in ms since the epoch; `undefined` where the credential does not tell when it ends. */
  dueAt(fields: JsonObject): number | undefined {
    const expiry = expiryOf(fields);
    const lead = typeof fields['type'] === 'string' ? LEADS_MS[fields['type']] : undefined;
    return expiry === undefined ? undefined : expiry - (lead ?? DEFAULT_LEAD_MS) - AHEAD_MS;
  }
}

export const DEFAULT_POLICY = new ProviderPolicy();
