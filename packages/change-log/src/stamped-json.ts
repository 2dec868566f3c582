import { checkFormat, TokenmirrorError } from '@tokenmirror/core';

/** @throws TokenmirrorError FORMAT_DAMAGED, FORMAT_NEWER; never with a part of the text */
export function parseStamped<T>(text: string, shown: string): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's own message quotes the text.
    throw new TokenmirrorError('FORMAT_DAMAGED', `${shown} is damaged`, 'Restore the store from a copy, or mirror into a new one.');
  }
  checkFormat(value, shown);
  return value as T;
}
