import { shownName, type StoreKey } from '@tokenmirror/core';

export interface Told {
  readonly key: StoreKey;
  readonly what: 'Add' | 'Update' | 'Delete' | 'Note a change by somebody else of' | 'Keep an earlier version of';
}

/** Which credential and what kind of change; never a value. */
export function commitMessage(told: readonly Told[]): string {
  const lines = told.map(({ key, what }) => `${what} ${shownName(key)}`);
  const [first = 'Prepare the repository for Tokenmirror'] = lines;
  return lines.length < 2
    ? `${first}\n`
    : `${first} and ${String(lines.length - 1)} more\n\n${lines.map((line) => `- ${line}\n`).join('')}`;
}
