import type { Command } from 'commander';
import { EXIT_ATTENTION } from '@tokenmirror/core';
import { health as ask } from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';

export async function health(command: Command): Promise<number> {
  const { settings } = await invoke(command);
  const report = await ask(settings);
  if (settings.json) printJson(report);
  else {
    print(report.status);
    for (const { reason, remedy } of report.reasons) print(`  ${reason}. ${remedy}`);
  }
  return report.status === 'ready' || report.status === 'degraded' ? 0 : EXIT_ATTENTION;
}
