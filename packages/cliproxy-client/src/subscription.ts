import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { backoffMs, type CancelTimer, type Clock, type RandomSource } from '@tokenmirror/core';
import type { ManagementTarget } from './gate.js';
import type { ManagementClient } from './management-client.js';
import { isLocal } from './probe.js';
import type { Refusal } from './refusal.js';
import { encodeCommand, RespReader, type RespValue } from './resp.js';

export interface SubscriptionParts {
  readonly client: ManagementClient;
  readonly channel: string;
  readonly clock: Clock;
  readonly random: RandomSource;
  /** It is listened to from now on; what was said before went by. */
  readonly live: () => void;
  readonly message: (text: string) => void;
}

/** `absent`: this version does not have the channel. */
export type SubscriptionState = 'connecting' | 'live' | 'absent' | 'refused' | 'stopped';

const ANSWER_MS = 10_000;
/** How often a channel that is not there, or a key that was refused, is looked at again: a file or a version may have changed. */
const RARELY_MS = 5 * 60_000;
/** How often it is looked whether the address is known, and the key may be used. Costs nothing. */
const LOOK_MS = 10_000;

/** A channel on CLIProxyAPI's port, listened to for as long as it is there. */
export class Subscription {
  readonly #parts: SubscriptionParts;
  #state: SubscriptionState = 'stopped';
  #socket: Socket | undefined;
  #cancel: CancelTimer | undefined;
  #attempt = 0;
  #since = -Infinity;

  constructor(parts: SubscriptionParts) {
    this.#parts = parts;
  }

  get state(): SubscriptionState {
    return this.#state;
  }

  start(): void {
    this.#state = 'connecting';
    this.#parts.client
      .inTurn(() => this.#enter())
      .catch(() => {
        this.#again('connecting', LOOK_MS);
      });
  }

  async #enter(): Promise<void> {
    if (this.#state === 'stopped') return;
    const { client } = this.#parts;
    const target = client.target();
    if (target === undefined) this.#again('connecting', LOOK_MS);
    else if (client.gate.closed(target) !== undefined) this.#again('refused', LOOK_MS);
    else await this.#connect(target);
  }

  stop(): void {
    this.#state = 'stopped';
    this.#cancel?.();
    this.#socket?.destroy();
  }

  /** Resolves when the key was taken or refused, or nothing answers. */
  #connect(target: ManagementTarget): Promise<void> {
    const { channel } = this.#parts;
    const { url, key } = target;
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const port = Number(url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : url.port);
    const socket =
      url.protocol === 'https:'
        ? connectTls({ host, port, rejectUnauthorized: !isLocal(url) })
        : connectTcp({ host, port, keepAlive: true });
    this.#socket = socket;
    const reader = new RespReader();
    socket.setTimeout(ANSWER_MS, () => socket.destroy());
    socket.write(encodeCommand('AUTH', key));
    let isIn = false;
    let answered = (): void => undefined;
    const answer = new Promise<void>((resolve) => (answered = resolve));
    socket.on('data', (data: Buffer) => {
      try {
        for (const value of reader.read(data)) {
          if (isIn) this.#hear(socket, value);
          else if (value instanceof Error) {
            this.#refused(target, value.message);
            socket.destroy();
          } else {
            isIn = true;
            answered();
            socket.write(encodeCommand('SUBSCRIBE', channel));
          }
        }
      } catch {
        this.#state = 'absent';
        socket.destroy();
      }
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      answered();
      if (this.#socket === socket) this.#closed();
    });
    return answer;
  }

  #hear(socket: Socket, value: RespValue): void {
    if (value instanceof Error) {
      this.#state = 'absent';
      socket.destroy();
      return;
    }
    if (!Array.isArray(value)) return;
    const [kind, , text] = value as readonly RespValue[];
    if (kind === 'subscribe') {
      this.#state = 'live';
      this.#since = this.#parts.clock.monotonic();
      socket.setTimeout(0);
      this.#parts.live();
    } else if (kind === 'message' && typeof text === 'string') this.#parts.message(text);
  }

  #refused(target: ManagementTarget, text: string): void {
    const { gate } = this.#parts.client;
    const refusal: Refusal = gate.refusalIn(text) ?? { kind: 'off' };
    gate.note(target, refusal);
    this.#state = 'refused';
  }

  #closed(): void {
    this.#socket = undefined;
    if (this.#state === 'absent' || this.#state === 'refused') {
      this.#again(this.#state, RARELY_MS);
      return;
    }
    if (this.#state === 'live' && this.#parts.clock.monotonic() - this.#since > RARELY_MS) this.#attempt = 0;
    this.#again('connecting', backoffMs(this.#attempt, this.#parts.random));
    this.#attempt += 1;
  }

  #again(state: SubscriptionState, ms: number): void {
    if (this.#state === 'stopped') return;
    this.#state = state;
    this.#cancel = this.#parts.clock.after(ms, () => {
      this.start();
    });
  }
}
