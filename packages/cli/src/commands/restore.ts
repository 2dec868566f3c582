import type { Command } from 'commander';
import { ReplicaFactory, restore as bringBack } from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';
import { mustAgree } from '../output/ask.js';

export async function restore(name: string, command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const { to: version, from, grant = false, yes = false } = command.opts<{ to?: string; from?: string; grant?: true; yes?: true }>();
  if (grant)
    await mustAgree(
      yes,
      'An old grant usually is dead at the provider, and presenting a used refresh token logs the account out everywhere.',
      'Restore the grant too?',
    );
  const result = await bringBack(container.resolve(ReplicaFactory), settings, { name, version, from, grant });
  if (settings.json) printJson(result);
  else
    print(
      `${result.name}: restored from version ${result.version}: ${result.restored}. A running daemon brings it to the workspace; else run \`tokenmirror sync\`.`,
    );
  return 0;
}
