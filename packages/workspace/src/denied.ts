import { messageOf, TokenmirrorError } from '@tokenmirror/core';
import { hasCode } from '@tokenmirror/files';

/** Turns a failure of the disk under a workspace into an error with a remedy; anything else is handed back as it is. */
export function denied(path: string, error: unknown): unknown {
  if (error instanceof TokenmirrorError || (error as NodeJS.ErrnoException).syscall === undefined) return error;
  return hasCode(error, 'ENOSPC', 'EDQUOT')
    ? diskFull(path, error)
    : new TokenmirrorError(
        'WORKSPACE_DENIED',
        `${path} cannot be used (${messageOf(error)})`,
        'Check the disk, and that the user that runs Tokenmirror may read and write there.',
        { cause: error },
      );
}

export function diskFull(path: string, cause: unknown): TokenmirrorError {
  return new TokenmirrorError(
    'WORKSPACE_DENIED',
    `${path} cannot be written: the disk is full`,
    'Free some space; it is tried again by itself.',
    { cause },
  );
}
