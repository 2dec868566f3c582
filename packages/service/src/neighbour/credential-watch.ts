import { isAbsolute, relative } from 'node:path';
import {
  ERRORS_CHANNEL,
  explain,
  readAuthFiles,
  readFailure,
  saysDeadToken,
  Subscription,
  type ManagementClient,
  type SubscriptionState,
} from '@tokenmirror/cliproxy-client';
import {
  isCredentialKey,
  readDocumentKey,
  type CancelTimer,
  type Clock,
  type DocumentKey,
  type Log,
  type RandomSource,
} from '@tokenmirror/core';

/** What is known of CLIProxyAPI's management API. */
export interface ManagementReport {
  /** `live`: it tells of every failed request; `absent`: this version does not, so its credentials are looked at now and then. */
  readonly channel: SubscriptionState;
  readonly version: string | undefined;
  readonly problem: { readonly reason: string; readonly remedy: string } | undefined;
}

export interface CredentialWatchParts {
  readonly client: ManagementClient;
  readonly authDir: string;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly log: Log;
  /** The provider refused the access token of a credential, which CLIProxyAPI uses no more for a while. */
  readonly died: (key: DocumentKey) => void;
}

/** How often the credentials are looked at, for what no channel told: each look costs CLIProxyAPI 60 ms of computing. */
const EVERY_MS = 5 * 60_000;

/** Learns from CLIProxyAPI which access tokens died. */
export class CredentialWatch {
  readonly #parts: CredentialWatchParts;
  readonly #channel: Subscription;
  #problem: ManagementReport['problem'];
  #cancel: CancelTimer | undefined;
  #stopped = false;

  constructor(parts: CredentialWatchParts) {
    this.#parts = parts;
    this.#channel = new Subscription({
      ...parts,
      channel: ERRORS_CHANNEL,
      live: () => {
        parts.log.info('management-live', { version: parts.client.version });
        void this.#look();
      },
      message: (text) => {
        this.#hear(text);
      },
    });
  }

  get report(): ManagementReport {
    const { client } = this.#parts;
    return { channel: this.#channel.state, version: client.version, problem: this.#problem };
  }

  /** To be called when everything is in sync: before, nothing is done about a token that died. */
  start(): void {
    if (this.#stopped) return;
    void this.#look();
    this.#channel.start();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
    this.#channel.stop();
  }

  #hear(text: string): void {
    const failure = readFailure(text);
    if (failure?.status === 401) this.#died(failure.path);
  }

  async #look(): Promise<void> {
    this.#cancel?.();
    if (this.#stopped) return;
    this.#cancel = this.#parts.clock.after(EVERY_MS, () => void this.#look());
    const outcome = await readAuthFiles(this.#parts.client);
    this.#note(outcome.ok || outcome.refusal.kind === 'unreachable' ? undefined : explain(outcome.refusal));
    if (!outcome.ok) return;
    for (const { path, isDisabled, isSuspended, message } of outcome.value)
      if (isSuspended && !isDisabled && saysDeadToken(message)) this.#died(path);
  }

  #note(problem: ManagementReport['problem']): void {
    if (problem !== undefined && problem.reason !== this.#problem?.reason) this.#parts.log.error('management-refused', problem);
    this.#problem = problem;
  }

  #died(path: string): void {
    const name = isAbsolute(path) ? relative(this.#parts.authDir, path) : path;
    const reading = readDocumentKey(`auths/${name.replaceAll('\\', '/')}`);
    if (reading.ok && isCredentialKey(reading.key)) this.#parts.died(reading.key);
  }
}
