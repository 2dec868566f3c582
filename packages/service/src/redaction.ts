import { OPTION_NAMES, optionSpec } from './options/option-table.js';
import type { Settings } from './options/settings.js';

const MASK = '••••••';
/** A shorter secret would black out half of the log; none that is worth the name is so short. */
const SHORTEST = 6;

/** What looks like a secret, whatever it is: tokens of providers, JWTs, passwords in addresses and in key=value words. */
const SHAPES: readonly (readonly [RegExp, string])[] = [
  [/\b(?:sk|gho|ghp|ghs|glpat|xox[abp])[-_][A-Za-z0-9][A-Za-z0-9_-]{11,}/g, MASK],
  [/\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*/g, MASK],
  [/\b1\/\/[A-Za-z0-9_-]{20,}|\bya29\.[A-Za-z0-9_-]{10,}/g, MASK],
  [/(\b[a-z][a-z0-9+.-]*:\/\/)(?!user:password@)[^\s/@"']+@/gi, `$1${MASK}@`],
  [/(\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}/gi, `$1${MASK}`],
  [/(\b(?:password|passwd|secret|access_token|refresh_token|id_token)\b["']?\s*[=:]\s*["']?)[^\s"',}&]+/gi, `$1${MASK}`],
];

/** Takes secrets out of a text that is about to leave the process, whoever wrote it. */
export type Redact = (text: string) => string;

/** Blacks out every secret of the settings, and everything that looks like one. */
export function redactionOf(settings: Partial<Settings>): Redact {
  const known = OPTION_NAMES.flatMap((name) => {
    const value = optionSpec(name).secret === true ? settings[name] : undefined;
    return typeof value === 'string' ? secretsIn(value) : [];
  });
  const spellings = [
    ...new Set(known.flatMap((secret) => [secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret.toWellFormed())])),
  ];
  const longestFirst = spellings.filter((secret) => secret.length >= SHORTEST).sort((a, b) => b.length - a.length);
  return (text) => {
    let shown = text;
    for (const secret of longestFirst) shown = shown.replaceAll(secret, MASK);
    for (const [shape, mask] of SHAPES) shown = shown.replace(shape, mask);
    return shown;
  };
}

/** The value itself, and the parts of it that are secret by themselves: the password of an address, the path of a webhook, the keys of a list. */
function secretsIn(value: string): string[] {
  const parts = [value, ...value.split(/[\s,]+/)];
  for (const word of [...parts]) {
    const password = /password\s*=\s*'?([^'\s]+)/i.exec(word)?.[1];
    if (password !== undefined) parts.push(password);
    if (/^[A-Za-z0-9._-]{1,40}:/.test(word) && !word.includes('://')) parts.push(word.slice(word.indexOf(':') + 1));
    if (!URL.canParse(word)) continue;
    const url = new URL(word);
    parts.push(url.password, decoded(url.password));
    if (url.protocol.startsWith('http') && url.pathname.length > SHORTEST) parts.push(url.pathname.slice(1));
  }
  return parts;
}

/** A password that was not encoded may hold what looks like an encoding and is none. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
