import type { Command } from 'commander';
import { SingleBar } from 'cli-progress';
import { EXIT_ATTENTION, TokenmirrorError } from '@tokenmirror/core';
import { migrate as copyDocuments, ReplicaFactory, StoreRegistry } from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';
import { table } from '../output/table.js';

interface MigrateFlags {
  readonly from: string;
  readonly to: string;
  readonly dryRun?: true;
}

export async function migrate(command: Command): Promise<number> {
  const { from, to, dryRun = false } = command.opts<MigrateFlags>();
  const { settings, container } = await invoke(command);
  const stores = container.resolve(StoreRegistry);
  const source = from === 'workspace' ? container.resolve(ReplicaFactory).workspaceSource() : await stores.named(from);
  const target = await stores.named(to);
  if (source.description === target.description)
    throw new TokenmirrorError('STORE_INVALID', 'source and target are the same store', 'Name two different ones.');
  const bar = process.stderr.isTTY
    ? new SingleBar({
        format: 'migrating [{bar}] {value}/{total} documents',
        stream: process.stderr,
        clearOnComplete: true,
        hideCursor: true,
      })
    : undefined;
  try {
    let started = false;
    const results = await copyDocuments(source, target, settings, dryRun, ({ done, total }) => {
      if (started) bar?.update(done);
      else bar?.start(total, done);
      started = true;
    });
    bar?.stop();
    const notable = results.filter(({ result }) => result === 'differs' || result === 'refused');
    const count = (result: string): number => results.filter((each) => each.result === result).length;
    if (settings.json) printJson({ from: source.description, to: target.description, dryRun, results });
    else {
      if (notable.length > 0)
        print(
          table(
            ['DOCUMENT', 'RESULT', 'DETAILS'],
            notable.map(({ name, result, details }) => [name, result, details]),
          ),
        );
      print(`from  ${source.description}\nto    ${target.description}`);
      const done = dryRun ? `${String(count('would be copied'))} would be copied` : `${String(count('copied'))} copied and read back`;
      print(
        `${done}, ${String(count('there'))} there already, ${String(count('differs'))} differ, ${String(count('refused'))} refused. The source is untouched.`,
      );
    }
    return notable.length === 0 ? 0 : EXIT_ATTENTION;
  } finally {
    bar?.stop();
    await source.close();
    await target.close();
  }
}
