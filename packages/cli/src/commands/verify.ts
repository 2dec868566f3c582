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
          ['PLACE', 'DOCUMENT', 'RESULT', 'DETAILS'],
          unequal.map(({ place, name, result, details }) => [place, name, result, details]),
        ),
      );
    for (const place of new Set(comparisons.map((comparison) => comparison.place))) {
      const here = comparisons.filter((comparison) => comparison.place === place);
      const equal = here.filter(({ result }) => result === 'equal');
      print(`${place}: ${String(equal.length)} of ${String(here.length)} documents are equal to the authority's.`);
    }
  }
  return unequal.length === 0 ? 0 : EXIT_ATTENTION;
}
