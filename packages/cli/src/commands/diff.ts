import type { Command } from 'commander';
import { EXIT_ATTENTION } from '@tokenmirror/core';
import { diff as planChanges, ReplicaFactory } from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';
import { table } from '../output/table.js';

export async function diff(command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const changes = await planChanges(container.resolve(ReplicaFactory));
  if (settings.json) printJson(changes);
  else if (changes.length === 0) print('A pass would do nothing.');
  else
    print(
      table(
        ['ACTION', 'DOCUMENT', 'BECAUSE', 'CONFLICTS'],
        changes.map(({ action, name, because, conflicts }) => [action, name, because, conflicts.join(', ')]),
      ),
    );
  return changes.length === 0 ? 0 : EXIT_ATTENTION;
}
