import type { Command } from 'commander';
import { listVersions, ReplicaFactory, showVersion } from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';
import { localTime, table } from '../output/table.js';

export async function history(name: string, command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const replicas = container.resolve(ReplicaFactory);
  const { show, from } = command.opts<{ show?: string; from?: string }>();
  if (show !== undefined) {
    const shown = await showVersion(replicas, settings, { name, id: show, from });
    if (settings.json) printJson(shown);
    else
      print(
        table(
          ['FIELD', 'VALUE', 'COMPARED WITH NOW'],
          shown.fields.map(({ name: field, value, compared }) => [field, value, compared]),
        ),
      );
    return 0;
  }
  const { name: document, now, versions } = await listVersions(replicas, name, from);
  if (settings.json) printJson({ name: document, now, versions });
  else {
    print(`${document} is ${now} in the store, with ${String(versions.length)} earlier ${versions.length === 1 ? 'version' : 'versions'}.`);
    if (versions.length > 0)
      print(
        table(
          ['VERSION', 'UNTIL', 'REASON', 'BY'],
          versions.map(({ id, at, reason, author }) => [id, localTime(at), reason, author ?? 'somebody else']),
        ),
      );
  }
  return 0;
}
