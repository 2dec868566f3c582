import { messageOf, TokenmirrorError, type ErrorCode } from '@tokenmirror/core';

interface GitError {
  readonly code?: unknown;
  readonly name?: unknown;
  readonly data?: { readonly statusCode?: unknown };
  readonly cause?: { readonly code?: unknown };
}

/** True for a clone that lacks or garbles objects, which can be made again. */
export function isDamaged(error: unknown): boolean {
  return ['NotFoundError', 'InternalError', 'ObjectTypeError', 'ParseError'].includes(String((error as GitError).code));
}

/** Turns what the library, the network or the disk throws into an error with a remedy. */
export function explain(error: unknown, place: string): unknown {
  if (error instanceof TokenmirrorError) return error;
  const make = (kind: ErrorCode, what: string, remedy: string): TokenmirrorError =>
    new TokenmirrorError(kind, `git ${place}: ${what}`, remedy, { cause: error });
  const { code, name, data, cause } = error as GitError;
  if (code === 'HttpError') {
    switch (data?.statusCode) {
      case 401:
        return make('STORE_DENIED', 'the username or the token was refused', 'Check GITSTORE_GIT_USERNAME and GITSTORE_GIT_TOKEN.');
      case 403:
        return make('STORE_DENIED', 'the token may not do that', 'Give it the right to read and write the contents of the repository.');
      case 404:
        return make('STORE_DENIED', 'there is no such repository, or the token may not see it', 'Make it, or correct GITSTORE_GIT_URL.');
      default:
        return make(
          'STORE_UNREACHABLE',
          `the server answers ${String(data?.statusCode)}`,
          'Check the server and the network; Tokenmirror goes on by itself.',
        );
    }
  }
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return make('STORE_FULL', 'the disk is full', 'Free some space; it is tried again by itself.');
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
    return make('STORE_DENIED', messageOf(error), 'Give the user that runs Tokenmirror the right to read and write it.');
  if (code === 'ENOENT' || code === 'ENOTDIR')
    return make('STORE_UNREACHABLE', 'the repository is not there', 'Mount or restore it; Tokenmirror goes on by itself.');
  if (typeof code === 'string' || name === 'TimeoutError' || name === 'AbortError' || cause !== undefined) {
    const reason = typeof cause?.code === 'string' ? cause.code : typeof code === 'string' ? code : String(name);
    return make(
      'STORE_UNREACHABLE',
      `it does not answer as it should (${reason})`,
      'Check the address and the network; Tokenmirror goes on by itself.',
    );
  }
  return error;
}
