import { messageOf, TokenmirrorError } from '@tokenmirror/core';

/** Turns what the driver or the server says into an error with a remedy. Messages of the server name objects, never values. */
export function explain(error: unknown, place: string): TokenmirrorError {
  if (error instanceof TokenmirrorError) return error;
  const code = sqlState(error);
  const make = (kind: ConstructorParameters<typeof TokenmirrorError>[0], what: string, remedy: string): TokenmirrorError =>
    new TokenmirrorError(kind, `Postgres at ${place}: ${what}`, remedy, { cause: error });

  if (code === '28P01') return make('STORE_DENIED', 'the password was refused', 'Check the user and the password in the DSN.');
  if (code.startsWith('28'))
    return make('STORE_DENIED', 'the user was refused', 'Check the user in the DSN, and pg_hba.conf of the server.');
  if (code === '3D000')
    return make('STORE_DENIED', 'the database does not exist', 'Make it (CREATE DATABASE), or correct its name in the DSN.');
  if (code === '42501')
    return make('STORE_DENIED', messageOf(error), 'Grant the right that is named; the whole list is in docs/postgres.md.');
  if (code === '25006') return make('STORE_DENIED', 'it is read-only', 'Name the primary server, not a standby.');
  if (code === '53100') return make('STORE_FULL', 'its disk is full', 'Free some space on the server; it is tried again by itself.');
  if (code === '42P01' || code === '3F000')
    return make(
      'STORE_UNREACHABLE',
      `a table is gone (${messageOf(error)})`,
      'Restore it; or restart Tokenmirror, which makes missing tables.',
    );
  if (
    code === 'SELF_SIGNED_CERT_IN_CHAIN' ||
    code === 'DEPTH_ZERO_SELF_SIGNED_CERT' ||
    code === 'UNABLE_TO_VERIFY_LEAF_SIGNATURE' ||
    code === 'ERR_TLS_CERT_ALTNAME_INVALID'
  ) {
    return make(
      'STORE_DENIED',
      `its certificate was not accepted (${code})`,
      'Give the authority as sslrootcert in the DSN, or use sslmode=require to encrypt without checking.',
    );
  }
  return make(
    'STORE_UNREACHABLE',
    `it does not answer (${messageOf(error) || code})`,
    'Check that the server runs and can be reached; Tokenmirror goes on by itself.',
  );
}

/** SQLSTATE classes by which the server refuses what is to be written, not the writer: bad data, constraints, a trigger's own error, too large. */
const DOCUMENT_ERRORS = ['22', '23', 'P0', '54'];

/** True when one row of a batch is at fault, not the server. */
export function isDocumentError(error: unknown): boolean {
  return DOCUMENT_ERRORS.includes(sqlState(error).slice(0, 2));
}

export function sqlState(error: unknown): string {
  return (error as { code?: string } | undefined)?.code ?? '';
}
