import { ERROR_CODES, messageOf, TokenmirrorError } from '@tokenmirror/core';
import { colorsFor } from './style.js';

/** Tells an operator what went wrong and what to do; returns what to exit with. */
export function reportError(error: unknown): number {
  const colors = colorsFor(process.stderr);
  if (error instanceof TokenmirrorError) {
    process.stderr.write(`${colors.red('error')} ${colors.dim(error.code)} ${error.message}\n      ${error.remedy}\n`);
    return error.exitCode;
  }
  process.stderr.write(
    `${colors.red('error')} ${colors.dim('INTERNAL')} ${messageOf(error)}\n      This is a defect of Tokenmirror. Please report it, with what you did before.\n`,
  );
  return ERROR_CODES.INTERNAL.exitCode;
}
