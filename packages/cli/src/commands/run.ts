import type { Command } from 'commander';
import { Daemon } from '@tokenmirror/service';
import { invoke, type Invocation } from '../context.js';

export async function run(command: Command): Promise<number> {
  return runDaemon(await invoke(command));
}

/** Runs the daemon until SIGTERM or SIGINT; a second signal ends it at once. */
export async function runDaemon({ container }: Invocation, ready?: () => void): Promise<number> {
  const daemon = container.resolve(Daemon);
  let asked = false;
  const stop = (): void => {
    if (asked) process.exit(130);
    asked = true;
    void daemon.stop();
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  try {
    await daemon.run(ready === undefined ? {} : { ready });
    return 0;
  } finally {
    process.off('SIGTERM', stop);
    process.off('SIGINT', stop);
  }
}
