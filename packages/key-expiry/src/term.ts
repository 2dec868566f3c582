import { TokenmirrorError } from '@tokenmirror/core';

/** For how long a key is valid. Instants are ms since the epoch. */
export type Term =
  { readonly kind: 'never' } | { readonly kind: 'after'; readonly ms: number } | { readonly kind: 'until'; readonly at: number };

const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 };
const LONGEST_MS = 100 * 366 * 86_400_000;
const DURATION = /^(?:\d+(?:\.\d+)?[smhdw])+$/;
const INSTANT = /^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2}))?$/i;

/** `24h`, `7d`, `1d12h`, `2026-03-01` (its beginning, UTC), an RFC 3339 instant with its zone, or `never`. @throws TokenmirrorError KEY_INVALID */
export function parseTerm(text: string): Term {
  const written = text.trim();
  if (/^never$/i.test(written)) return { kind: 'never' };
  if (DURATION.test(written)) {
    const ms = durationOf(written);
    if (ms > 0 && ms <= LONGEST_MS) return { kind: 'after', ms };
  }
  if (INSTANT.test(written)) {
    const at = Date.parse(written.replace(' ', 'T'));
    if (Number.isFinite(at) && isOnCalendar(written)) return { kind: 'until', at };
  }
  throw new TokenmirrorError('KEY_INVALID', 'the term is not understood', 'Write 24h, 7d, 2026-03-01, 2026-03-01T12:00:00Z or never.');
}

/** When a term ends that begins now; `null` for never. */
export function endOf(term: Term, now: number): number | null {
  switch (term.kind) {
    case 'never':
      return null;
    case 'after':
      return now + term.ms;
    case 'until':
      return term.at;
  }
}

/** How far back `24h`, `7d` or an instant reaches, as an instant. @throws TokenmirrorError KEY_INVALID */
export function parseSince(text: string, now: number): number {
  const term = parseTerm(text);
  if (term.kind === 'never') return 0;
  return term.kind === 'after' ? now - term.ms : term.at;
}

function durationOf(text: string): number {
  return [...text.matchAll(/(\d+(?:\.\d+)?)([smhdw])/g)].reduce(
    (sum, [, amount, unit]) => sum + Number(amount) * (UNITS[unit ?? ''] ?? NaN),
    0,
  );
}

/** False for the 30th of February, which `Date` takes for a day in March. */
function isOnCalendar(text: string): boolean {
  const day = text.slice(0, 10);
  return new Date(`${day}T00:00:00Z`).toISOString().startsWith(day);
}
