import { ERROR_CODES, messageOf, TokenmirrorError } from '@tokenmirror/core';
import { redactionOf, type Redact, type Settings } from '@tokenmirror/service';
import { colorsFor } from './style.js';

let redact: Redact = redactionOf({});

/** From now on the secrets of these settings are taken out of what is told, whoever wrote it. */
export function redactErrors(settings: Settings): void {
  redact = redactionOf(settings);
}

/** Tells an operator what went wrong and what to do; returns what to exit with. */
export function reportError(error: unknown): number {
  const colors = colorsFor(process.stderr);
  if (error instanceof TokenmirrorError) {
    process.stderr.write(`${colors.red('error')} ${colors.dim(error.code)} ${redact(error.message)}\n      ${redact(error.remedy)}\n`);
    return error.exitCode;
  }
  process.stderr.write(
    `${colors.red('error')} ${colors.dim('INTERNAL')} ${redact(messageOf(error))}\n      This is a defect of Tokenmirror. Please report it, with what you did before.\n`,
  );
  return ERROR_CODES.INTERNAL.exitCode;
}
