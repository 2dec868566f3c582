import { TokenmirrorError } from '@tokenmirror/core';

/** Reads a file of ours. @throws TokenmirrorError FORMAT_DAMAGED, without any part of the text: the parser's own message quotes it */
export function parseOwn(text: string, shown: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new TokenmirrorError(
      'FORMAT_DAMAGED',
      `${shown} is damaged`,
      'Restore it from an earlier commit, or mirror into a new repository.',
    );
  }
}
