import { TokenmirrorError } from '@tokenmirror/core';

const EMAIL = /^[^\s@]{1,64}@[^\s@]{1,190}$/;
const CONTROL = /\p{Cc}/u;
const LONGEST_NOTE = 1000;

export function isEmail(text: string): boolean {
  return EMAIL.test(text) && isPlain(text);
}

/** Nothing that would act on a terminal, or break a line. */
export function isPlain(text: string): boolean {
  return !CONTROL.test(text);
}

/** In small letters; the empty one is nobody. @throws TokenmirrorError KEY_INVALID */
export function checkedOwner(owner: string): string {
  const written = owner.trim().toLowerCase();
  if (written === '' || isEmail(written)) return written;
  throw new TokenmirrorError('KEY_INVALID', 'the owner is no e-mail address', 'Write it as name@example.com.');
}

/** @throws TokenmirrorError KEY_INVALID */
export function checkedNote(note: string): string {
  if (note.length <= LONGEST_NOTE && isPlain(note)) return note;
  throw new TokenmirrorError(
    'KEY_INVALID',
    'the note, or a label, cannot be used',
    `Write one line of at most ${String(LONGEST_NOTE)} characters.`,
  );
}

/** @throws TokenmirrorError KEY_INVALID */
export function refusePast(at: number | null, now: number): void {
  if (at !== null && at <= now)
    throw new TokenmirrorError('KEY_INVALID', 'the term ends in the past', 'Give a later instant; to end a key now, disable it.');
}
