import type { Command } from 'commander';
import { messageOf, TokenmirrorError } from '@tokenmirror/core';
import { Daemon } from '@tokenmirror/service';
import { invoke, type Invocation } from '../context.js';

export async function run(command: Command): Promise<number> {
  return runDaemon(await invoke(command));
}

/** How long a connection to a mirror that does not answer may keep the process after everything else has ended, in ms. */
const LINGER_MS = 1000;

/** Runs the daemon until SIGTERM or SIGINT; a second signal ends it at once. SIGHUP reads the settings again. */
export async function runDaemon({ container, log, readAgain }: Invocation, ready?: () => void): Promise<number> {
  const daemon = container.resolve(Daemon);
  let asked = false;
  const stop = (): void => {
    if (asked) process.exit(130);
    asked = true;
    void daemon.stop();
  };
  const reload = (): void => {
    try {
      const settings = readAgain();
      log.setLevel(settings['log-level']);
      log.info('reloaded', { needRestart: daemon.reload(settings) });
    } catch (error) {
      log.error('reload-failed', { reason: messageOf(error), remedy: error instanceof TokenmirrorError ? error.remedy : '' });
    }
  };
  process.on('SIGHUP', reload);
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  try {
    await daemon.run(ready === undefined ? {} : { ready });
    return 0;
  } finally {
    process.off('SIGHUP', reload);
    process.off('SIGTERM', stop);
    process.off('SIGINT', stop);
    setTimeout(() => process.exit(), LINGER_MS).unref();
  }
}
