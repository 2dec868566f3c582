/** The two lines of CLIProxyAPI that were measured. */
export type Flavour = '6.9' | '7.2';

/** What the header `X-CPA-VERSION` says. */
export const VERSIONS: Readonly<Record<Flavour, string>> = { '6.9': '6.9.49', '7.2': '7.2.140' };

/**
 * What was measured on the real program and decides how Tokenmirror is built. Each can be switched off, to prove that the contract suite
 * would notice: a suite that passes without a fact does not test it.
 */
export const FACTS = {
  'ignores-empty-credentials': 'an empty or cut credential file is ignored, the one in memory stays in use',
  'hot-reload': 'a credential that is renamed over another is in use at once',
  'direct-children-only': 'credentials in sub-directories are loaded at the start, and not watched',
  'removal-unloads': 'a removed credential is not used any more after a second',
  'config-watched-by-inode': 'after a rename over config.yaml the watch is silent for ever',
  'config-reload': 'config.yaml is read again after a write in place',
  'cut-config-opens': 'a config without api-keys serves everyone, and one without a secret turns the management API off',
  'ignores-bad-config': 'an empty or unparseable config is ignored',
  'hashes-secret': 'a plaintext management secret is replaced by its bcrypt hash, on the same inode',
  'empty-list-opens': 'an empty list of api-keys serves everyone',
  'saves-after-requests': 'what is in memory is saved over the file after a request, when it differs',
  'sorts-keys': 'a saved credential has its keys sorted, and `disabled`',
  'device-ids': 'from 7.2.116 a credential that was used has `claude_device_ids`; existing ones stay',
  'refreshes-when-expired': 'a file with a refresh token and an expiry in the past is refreshed at once',
  'refreshes-within-lead': 'a credential is refreshed when its expiry is nearer than the lead of its provider',
  'serves-without-refresh-token': 'a credential without a refresh token is served and never refreshed',
  'sealed-pause': 'a credential without a refresh token is looked at every 30 s within its lead, and this pause outlives a changed file',
  'pauses-after-failure': 'after a failed refresh the credential is left alone for 5 minutes, new files or not',
  'retries-5xx': 'a refresh is tried up to three times when the provider is in trouble',
  'used-token-is-final': 'a used refresh token of Codex is not presented again',
  'disabled-refresh': '7.2 refreshes disabled credentials, 6.9 does not',
  'suspends-dead-token': 'a dead access token answers 401 once, then 503',
  'changed-value-revives': 'any changed value in the file ends the suspension; the same content does not',
  'refresh-on-401': '7.2 refreshes and tries again when its access token is dead; 6.9 does not',
  'expired-beats-suspension': 'a file with an expiry in the past is refreshed although its credential was suspended by a 401',
  'refresh-keeps-old-settings': 'a refresh in flight writes the settings with which it began',
  'refresh-outlives-removal': 'a token that was removed from the file during a refresh comes back as the new grant',
  'refresh-outlives-deletion': 'in 6.9 a file that was deleted during a refresh comes back with the new grant',
  'deleted-returns-disabled-does-not': 'a deleted credential that is in use comes back; one that was disabled before does not',
  'management-needs-secret': 'without a secret the management API is not there',
  'bans-after-five': 'five wrong management keys ban the address, the right key included, on HTTP and RESP alike',
  'refuses-empty-items': 'an empty list of api-keys is refused in `items`, and accepted as an array',
  'null-key-list': 'a config without a list of api-keys is told as `null`',
  'applies-before-saving': 'a change through the management API that cannot be saved is answered with 500, and is in memory all the same',
  'delete-absent-is-ok': 'deleting an api-key that is not there is answered with 200',
  'keeps-comments': 'a management call that changes the config keeps its comments',
  'management-enforced-by-watch': 'in 6.9 a change through the management API is enforced by the config watch only, in 7.2 at once',
  'resp-needs-auth': 'the RESP port answers -NOAUTH before AUTH, and -ERR to what it does not know',
  'resp-errors': 'from 7.1.44 the RESP channel `errors` tells of every failed request, and of what became of its credential',
  'lists-suspended': 'the list of credentials says which are not used for a while',
  'counts-requests': 'the list of credentials counts the requests that succeeded and failed',
  'usage-needs-switch': 'usage is recorded only with usage-statistics-enabled',
  'usage-export': '6.9 keeps statistics in memory and exports them; 7.2 has no such call',
  'usage-import-merges': 'an import adds what is not there, told apart to the nanosecond, and skips the rest',
  'usage-queue-http': '7.2 hands usage out over HTTP; a count of 0 is refused where the call exists',
  'usage-queue-pops': 'what was read from the usage queue is gone',
  'usage-queue-retention': 'usage leaves the queue after its retention',
  'usage-subscribe': 'from 7.0.7 the RESP channel `usage` tells of every request',
  'usage-subscribers-starve': 'while somebody subscribes, nothing enters the usage queue',
  'tells-version': 'management answers carry X-CPA-VERSION, refusals included',
} as const satisfies Record<string, string>;

export type Fact = keyof typeof FACTS;

export const FACT_NAMES = Object.keys(FACTS) as Fact[];

/** What the emulation takes to be true. */
export class Measured {
  readonly flavour: Flavour;
  readonly #without: ReadonlySet<Fact>;

  constructor(flavour: Flavour, without: Iterable<Fact> = []) {
    this.flavour = flavour;
    this.#without = new Set(without);
  }

  has(fact: Fact): boolean {
    return !this.#without.has(fact);
  }
}

const HOUR_MS = 3_600_000;

/** How long before its expiry a credential is refreshed, by type. */
export const LEADS_MS: Readonly<Record<string, number>> = {
  codex: 5 * 24 * HOUR_MS,
  claude: 4 * HOUR_MS,
  antigravity: 300_000,
  kimi: 300_000,
  xai: 300_000,
};
