import type { Command } from 'commander';
import { EXIT_ATTENTION } from '@tokenmirror/core';
import { doctor as examine, ReplicaFactory, VERSION, type Finding } from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';
import { colorsFor } from '../output/style.js';

export async function doctor(command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const findings = await examine(container.resolve(ReplicaFactory), settings, VERSION);
  if (settings.json) printJson(findings);
  else print(findings.map((finding) => render(finding)).join('\n'));
  return findings.every(({ status }) => status === 'ok' || status === 'skipped') ? 0 : EXIT_ATTENTION;
}

function render({ check, status, message, remedy }: Finding): string {
  const colors = colorsFor(process.stdout);
  const mark = { ok: colors.green('ok  '), attention: colors.yellow('look'), failed: colors.red('BAD '), skipped: colors.dim('–   ') }[
    status
  ];
  return `${mark}  ${check.padEnd(18)}  ${message}${remedy === undefined ? '' : `\n${' '.repeat(26)}→ ${remedy}`}`;
}
