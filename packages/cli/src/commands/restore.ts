import { confirm, isCancel } from '@clack/prompts';
import type { Command } from 'commander';
import { TokenmirrorError } from '@tokenmirror/core';
import { ReplicaFactory, restore as bringBack } from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';

export async function restore(name: string, command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const { to: version, from, grant = false, yes = false } = command.opts<{ to?: string; from?: string; grant?: true; yes?: true }>();
  if (grant && !yes) await askForGrant();
  const result = await bringBack(container.resolve(ReplicaFactory), settings, { name, version, from, grant });
  if (settings.json) printJson(result);
  else
    print(
      `${result.name}: restored from version ${result.version}: ${result.restored}. A running daemon brings it to the workspace; else run \`tokenmirror sync\`.`,
    );
  return 0;
}

async function askForGrant(): Promise<void> {
  const warning = 'An old grant usually is dead at the provider, and presenting a used refresh token logs the account out everywhere.';
  if (!process.stdin.isTTY) throw new TokenmirrorError('USAGE', `--grant needs a yes. ${warning}`, 'Add --yes if you are sure.');
  const answer = await confirm({ message: `${warning} Restore the grant too?`, initialValue: false });
  if (isCancel(answer) || !answer)
    throw new TokenmirrorError('USAGE', 'nothing was restored', 'Leave out --grant to restore the settings only.');
}
