/**
 * Every error that an operator can meet: a stable code, what the command exits with, and a line that says what it is about.
 * The message of an instance names the thing; the remedy says what to do next. Secrets never go into either.
 */
export const ERROR_CODES = {
  USAGE: { exitCode: 2, about: 'the command line was not understood' },
  OPTION_INVALID: { exitCode: 2, about: 'an option has a value that cannot be used' },
  WORKSPACE_MISSING: { exitCode: 3, about: 'a directory of the workspace does not exist' },
  WORKSPACE_DENIED: { exitCode: 3, about: 'a file or directory of the workspace cannot be read or written' },
  WORKSPACE_BUSY: { exitCode: 3, about: 'another Tokenmirror works on the same workspace' },
  REPLICA_DUPLICATE: { exitCode: 3, about: 'two daemons run under one replica id' },
  PLATFORM_UNSUPPORTED: { exitCode: 3, about: 'the operating system is not supported' },
  SERVICE_FAILED: { exitCode: 3, about: 'the service manager did not do what it was asked' },
  STORE_INVALID: { exitCode: 2, about: 'a store is named in a way that cannot be used' },
  STORE_UNREACHABLE: { exitCode: 4, about: 'a store does not answer' },
  STORE_DENIED: { exitCode: 4, about: 'a store refuses the credentials or lacks a right' },
  STORE_UNSUITABLE: { exitCode: 4, about: 'a store lacks something that Tokenmirror depends on' },
  STORE_FULL: { exitCode: 4, about: 'a store has no room left' },
  ENCRYPTION_KEY: { exitCode: 5, about: 'what is encrypted cannot be read with the keys that were given' },
  FORMAT_NEWER: { exitCode: 5, about: 'data was written by a newer version of Tokenmirror' },
  FORMAT_DAMAGED: { exitCode: 5, about: 'data of Tokenmirror cannot be read' },
  CLUSTER_FOREIGN: { exitCode: 5, about: 'the replica belongs to another cluster than the store' },
  CUSTODY_REFUSED: { exitCode: 5, about: 'the custody setting does not fit the cluster' },
  DOCUMENT_UNKNOWN: { exitCode: 6, about: 'no such document or version' },
  DOCUMENT_REFUSED: { exitCode: 6, about: 'a document cannot be replicated as it is' },
  GRANT_ALIVE: { exitCode: 6, about: 'restoring an old grant would kill the one in use' },
  KEY_INVALID: { exitCode: 2, about: 'something about an API key was written in a way that cannot be used' },
  KEY_UNKNOWN: { exitCode: 6, about: 'no such API key' },
  KEY_REFUSED: { exitCode: 6, about: 'an API key cannot be changed like this' },
  INTERNAL: { exitCode: 70, about: 'a defect of Tokenmirror' },
} as const satisfies Record<string, { exitCode: number; about: string }>;

export type ErrorCode = keyof typeof ERROR_CODES;

/** What a command exits with when it did its work and found something that the operator should look at. */
export const EXIT_ATTENTION = 1;

/** An error meant for an operator. `message` names the thing, `remedy` what to do; neither holds a secret. */
export class TokenmirrorError extends Error {
  readonly code: ErrorCode;
  readonly remedy: string;

  constructor(code: ErrorCode, message: string, remedy: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'TokenmirrorError';
    this.code = code;
    this.remedy = remedy;
  }

  get exitCode(): number {
    return ERROR_CODES[this.code].exitCode;
  }
}

/** True for the failures that pass by themselves: the engine waits and tries again. */
export function isOutage(error: unknown): boolean {
  return error instanceof TokenmirrorError && (error.code === 'STORE_UNREACHABLE' || error.code === 'STORE_FULL');
}

/** The text of any thrown value, for a log line or a wrapped message. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
