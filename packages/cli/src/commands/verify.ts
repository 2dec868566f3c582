import type { Command } from 'commander';
import { EXIT_ATTENTION } from '@tokenmirror/core';
import { ReplicaFactory, verify as compare } from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';
import { table } from '../output/table.js';

export async function verify(command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const comparisons = await compare(container.resolve(ReplicaFactory), settings);
  const unequal = comparisons.filter(({ result }) => result !== 'equal');
  if (settings.json) printJson(comparisons);
  else {
    if (unequal.length > 0)
      print(
        table(
          ['DOCUMENT', 'RESULT', 'DETAILS'],
          unequal.map(({ name, result, details }) => [name, result, details]),
        ),
      );
    print(`${String(comparisons.length - unequal.length)} of ${String(comparisons.length)} documents are equal.`);
  }
  return unequal.length === 0 ? 0 : EXIT_ATTENTION;
}
