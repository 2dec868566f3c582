import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import type { OptionType } from './option-table.js';

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
const DAY_UNITS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 };
const SIZE_UNITS: Readonly<Record<string, number>> = { '': 1, b: 1, kib: 1024, mib: 1024 ** 2, gib: 1024 ** 3, kb: 1000, mb: 1e6, gb: 1e9 };

/** `250ms`, `10s`, `2m`, `1h`, `1m30s`, as milliseconds. */
const duration = z.string().transform((text, context) => {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
  const isWhole = parts.map(([part]) => part).join('') === text;
  const ms = parts.reduce((sum, [, amount, unit]) => sum + Number(amount) * (DURATION_UNITS[unit ?? ''] ?? NaN), 0);
  if (isWhole && ms >= 10 && ms <= 86_400_000) return ms;
  context.addIssue({ code: 'custom', message: 'write a duration between 10ms and 24h, such as 500ms, 10s or 2m' });
  return z.NEVER;
});

/** `12h`, `3d`, `2w`, as milliseconds. */
const days = z.string().transform((text, context) => {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(m|h|d|w)$/.exec(text) ?? [];
  const ms = Number(amount) * (DAY_UNITS[unit ?? ''] ?? NaN);
  if (ms >= 60_000 && ms <= 366 * 86_400_000) return ms;
  context.addIssue({ code: 'custom', message: 'write a time between 1m and 366d, such as 12h, 3d or 2w' });
  return z.NEVER;
});

/** `1MiB`, `512KiB`, `4096`, as bytes. */
const size = z.string().transform((text, context) => {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text) ?? [];
  const bytes = Math.floor(Number(amount) * (SIZE_UNITS[unit?.toLowerCase() ?? 'x'] ?? NaN));
  if (bytes >= 1024) return bytes;
  context.addIssue({ code: 'custom', message: 'write a size of at least 1KiB, such as 512KiB or 1MiB' });
  return z.NEVER;
});

const flag = z.union([z.boolean(), z.stringbool()], { error: 'write true or false' });
const text = z.string().trim().min(1, 'give a value');
const atHome = (value: string): string => (value === '~' || value.startsWith('~/') ? join(homedir(), value.slice(1)) : value);
const path = text.transform(atHome);
const url = z.url({ protocol: /^https?$/, error: 'write an address such as http://127.0.0.1:8317' });
const count = z.coerce
  .number('write a whole number')
  .int('write a whole number')
  .min(1, 'write at least 1')
  .max(1000, 'write at most 1000');
const names = z.string().transform((list) =>
  list
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== ''),
);

/** Ids of Telegram, which may be negative. */
const ids = z.string().transform((list, context) => {
  const found = list.split(/[\s,;]+/).filter((id) => id !== '');
  if (found.every((id) => /^-?\d{1,20}$/.test(id))) return found;
  context.addIssue({ code: 'custom', message: 'write numbers, separated by commas' });
  return z.NEVER;
});

/** Where a server listens. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
  readonly isLoopback: boolean;
}

/** `127.0.0.1:8318`, `[::1]:8318`, `:8318` for every address, or `off`. */
const listen = z.string().transform((written, context): ListenAddress | 'off' => {
  if (written === 'off') return 'off';
  const [, host = '', port] = /^(\[[0-9a-f:.]+\]|[^\s:]*):(\d{1,5})$/i.exec(written) ?? [];
  if (port !== undefined && Number(port) <= 65_535) {
    const name = host.replace(/^\[|\]$/g, '');
    const isLoopback = name === 'localhost' || name === '::1' || name.startsWith('127.');
    return { host: name === '' ? '::' : name, port: Number(port), isLoopback };
  }
  context.addIssue({ code: 'custom', message: 'write an address and a port such as 127.0.0.1:8318, or off' });
  return z.NEVER;
});

const paths = names.transform((list) => list.map(atHome));

/** One parser for each type of option. */
export const VALUE_SCHEMAS = {
  path,
  text,
  url,
  flag,
  duration,
  days,
  size,
  count,
  names,
  ids,
  paths,
  addressing: z.enum(['auto', 'path', 'virtual'], { error: 'write auto, path or virtual' }),
  custody: z.enum(['auto', 'on', 'off'], { error: 'write auto, on or off' }),
  listen,
  'notify-format': z.enum(['auto', 'json', 'slack'], { error: 'write auto, json or slack' }),
  switch: z.stringbool({ error: 'write yes or no' }),
  'log-level': z.enum(['debug', 'info', 'warn', 'error'], { error: 'write debug, info, warn or error' }),
  'log-format': z.enum(['auto', 'pretty', 'json'], { error: 'write auto, pretty or json' }),
} as const satisfies Record<OptionType, z.ZodType>;
