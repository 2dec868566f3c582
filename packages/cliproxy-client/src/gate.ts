import { createHash } from 'node:crypto';
import type { Clock } from '@tokenmirror/core';
import type { Refusal } from './refusal.js';

/** Where a management API is, and what opens it. */
export interface ManagementTarget {
  readonly url: URL;
  readonly key: string;
  /** `remote-management.secret-key` as the config has it: when it changes, a key that was refused may be right. */
  readonly secret: string;
}

/** Remembers over restarts which key was refused: a daemon that is restarted again and again would be banned else. */
export interface RefusedKeys {
  has(id: string): boolean;
  /** Never fails. */
  add(id: string): void;
}

/** Decides whether CLIProxyAPI may be asked at all. Every failure counts, over HTTP and RESP alike, so all calls of a process pass one gate. */
export class Gate {
  readonly #clock: Clock;
  readonly #memory: RefusedKeys;
  /** The key that was taken last. */
  #proven: string | undefined;
  #closedUntil: { readonly refusal: Refusal; readonly until: number } | undefined;

  constructor(clock: Clock, memory: RefusedKeys) {
    this.#clock = clock;
    this.#memory = memory;
  }

  /** Why nothing may be asked now, or `undefined`. */
  closed(target: ManagementTarget): Refusal | undefined {
    if (this.#memory.has(idOf(target))) return { kind: 'wrong-key' };
    if (this.#closedUntil === undefined || this.#clock.monotonic() >= this.#closedUntil.until) return undefined;
    return this.#closedUntil.refusal;
  }

  /** Takes note of how the target answered. */
  note(target: ManagementTarget, refusal: Refusal | undefined): void {
    if (refusal === undefined) this.#proven = idOf(target);
    if (refusal?.kind === 'wrong-key') this.#memory.add(idOf(target));
    if (refusal?.kind === 'banned')
      this.#closedUntil = { refusal, until: this.#clock.monotonic() + Math.max(0, refusal.until - this.#clock.now()) };
  }

  /** True for a key that was taken before: an attempt with it costs nothing. */
  isProven(target: ManagementTarget): boolean {
    return this.#proven === idOf(target);
  }

  /** What a refusal means that came with 401 or 403, over HTTP or RESP, by its text. */
  refusalIn(text: string): Refusal | undefined {
    if (/banned/i.test(text)) return { kind: 'banned', until: this.#clock.now() + banIn(text) };
    if (/remote management disabled/i.test(text)) return { kind: 'not-local' };
    if (/(invalid|missing|wrong).*key|wrongpass/i.test(text)) return { kind: 'wrong-key' };
    return undefined;
  }
}

const LONGEST_BAN_MS = 30 * 60_000;

/** How long a ban lasts, by what CLIProxyAPI says: `29m59s`. */
function banIn(text: string): number {
  const said = /try again in (?:(\d+)h)?(?:(\d+)m)?(?:(\d+)(?:\.\d+)?s)?/i.exec(text);
  const [hours = 0, minutes = 0, seconds = 0] = [said?.[1], said?.[2], said?.[3]].map((part) => Number(part ?? 0));
  const ms = ((hours * 60 + minutes) * 60 + seconds + 1) * 1000;
  return said === null || ms <= 1000 ? LONGEST_BAN_MS : ms;
}

function idOf({ url, key, secret }: ManagementTarget): string {
  return createHash('sha256')
    .update(JSON.stringify([url.href, key, secret]))
    .digest('hex');
}
