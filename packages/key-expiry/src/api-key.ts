import { randomInt } from 'node:crypto';
import { TokenmirrorError } from '@tokenmirror/core';
import type { Quota, Use } from './quota.js';

/** `deleted`: forgotten but for its hash, so that it is taken out wherever an old config brings it back. */
export type KeyStatus = 'active' | 'disabled' | 'deleted';

/** What is known of an API key. Times are ms since the epoch. */
export interface ApiKey {
  readonly id: string;
  /** Enough to recognise it, too little to use it. */
  readonly mask: string;
  /** E-mail address, or empty. */
  readonly owner: string;
  readonly status: KeyStatus;
  /** `null`: never. */
  readonly expiresAt: number | null;
  readonly note: string;
  readonly labels: readonly string[];
  readonly quota: Quota | null;
  readonly createdAt: number;
  readonly createdBy: string;
  readonly lastUsedAt: number | null;
  /** The key that it was rotated into. */
  readonly replacedBy: string | null;
  /** In the current window of its quota. */
  readonly used: Use;
}

/** Why a key is not, or not any more, in CLIProxyAPI. */
export type KeyState = 'valid' | 'expired' | 'exhausted' | 'disabled' | 'deleted';

export function stateOf({ status, expiresAt, quota, used }: ApiKey, now: number): KeyState {
  if (status !== 'active') return status;
  if (expiresAt !== null && expiresAt <= now) return 'expired';
  return quota !== null && used[quota.unit] >= quota.limit ? 'exhausted' : 'valid';
}

/** Stands in a list that would be empty: CLIProxyAPI without keys serves everybody. */
export const SENTINEL_PREFIX = 'sk-tokenmirror-closed-';
/** With one of these CLIProxyAPI from 7.1.46 on goes into a safe mode. */
const TEMPLATE = /^your-api-key-\d+$/;
const USABLE = /^[\x21-\x7e]{8,256}$/;
const ID = /^key_[a-z0-9]{10}$/;
/** What has the shape of a key, wherever it stands. */
const KEY_SHAPE = /\bsk-[A-Za-z0-9_-]{8,}|\b(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{24,}/g;
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** True for what the registry calls a key by, and no key is. */
export function isKeyId(text: string): boolean {
  return ID.test(text);
}

/** The same text, with everything in it that has the shape of a key masked. */
export function withoutKeys(text: string): string {
  return text.replace(KEY_SHAPE, (word) => (isKeyId(word) ? word : maskOf(word)));
}

export function isTemplate(key: string): boolean {
  return TEMPLATE.test(key);
}

export function isSentinel(key: string): boolean {
  return key.startsWith(SENTINEL_PREFIX);
}

/** @throws TokenmirrorError KEY_INVALID, without the key */
export function checkKey(key: string): void {
  const problem = problemOf(key);
  if (problem !== undefined)
    throw new TokenmirrorError('KEY_INVALID', `the key cannot be used: ${problem}`, 'Give another one, or none to have one made.');
}

function problemOf(key: string): string | undefined {
  if (!USABLE.test(key)) return 'it has to be 8 to 256 visible ASCII characters without blanks';
  if (isTemplate(key)) return 'it is one of the examples in the config that CLIProxyAPI comes with';
  if (isSentinel(key) || key.startsWith('key_')) return 'that beginning is used by Tokenmirror itself';
  return key.includes('@') ? 'with an @ it looks like an e-mail address' : undefined;
}

/** `sk-<owner>-<random>`, with 190 bits of randomness. */
export function generateKey(owner: string): string {
  const name = (owner.split('@')[0] ?? '')
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '')
    .slice(0, 20);
  return `sk-${name === '' ? 'key' : name}-${randomText(32)}`;
}

export function generateSentinel(): string {
  return `${SENTINEL_PREFIX}${randomText(32)}`;
}

export function randomText(length: number): string {
  return Array.from({ length }, () => ALPHABET[randomInt(ALPHABET.length)]).join('');
}

/** Beginning and end of a key that is long enough to spare them. */
export function maskOf(key: string): string {
  if (key.length < 12) return '…';
  return key.length < 24 ? `${key.slice(0, 3)}…${key.slice(-2)}` : `${key.slice(0, 6)}…${key.slice(-4)}`;
}
