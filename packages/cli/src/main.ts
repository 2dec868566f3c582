#!/usr/bin/env node
import { CommanderError } from 'commander';
import { ERROR_CODES, TokenmirrorError } from '@tokenmirror/core';
import { reportError } from './output/report-error.js';
import { createProgram } from './program/program.js';

/** Parallel fsyncs become one commit of the file system's journal: more threads make bulk writes faster. */
process.env['UV_THREADPOOL_SIZE'] ??= '16';
/** A URL on the command line may hold a password; the title replaces what other users see of it. */
process.title = 'tokenmirror';

async function main(): Promise<number> {
  if (process.platform !== 'linux' && process.platform !== 'darwin') {
    throw new TokenmirrorError(
      'PLATFORM_UNSUPPORTED',
      `Tokenmirror does not run on ${process.platform} yet`,
      'Use Linux or macOS; on Windows, WSL.',
    );
  }
  let exitCode = 0;
  const program = createProgram((code) => {
    exitCode = code;
  });
  await program.parseAsync();
  return exitCode;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : ERROR_CODES.USAGE.exitCode;
  else process.exitCode = reportError(error);
}
