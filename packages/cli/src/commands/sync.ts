import type { Command } from 'commander';
import { EXIT_ATTENTION, shownName, type EngineStatus } from '@tokenmirror/core';
import { describeMirror } from '../output/places.js';
import { ReplicaFactory, sync as syncOnce } from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';
import { table } from '../output/table.js';

export async function sync(command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const { status, actions, mirrors, peers } = await syncOnce(container.resolve(ReplicaFactory));
  const isWell =
    status.state !== 'degraded' &&
    mirrors.every(({ state }) => state === 'in step') &&
    peers.every(({ engine, problem }) => engine.state !== 'degraded' && problem === undefined);
  if (settings.json)
    printJson({
      actions: actions.map(({ key, action, because, conflicts }) => ({ name: key, action, because, conflicts })),
      ...problemsOf(status),
      mirrors,
      peers: peers.map(({ directory, engine, problem }) => ({ directory, problem, ...problemsOf(engine) })),
    });
  else {
    if (actions.length > 0)
      print(
        table(
          ['ACTION', 'DOCUMENT', 'BECAUSE'],
          actions.map(({ key, action, because }) => [action, shownName(key), because]),
        ),
      );
    for (const { name, side, reason } of status.refusals) print(`refused (${side})  ${name}: ${reason}`);
    for (const key of status.loginDue) print(`login due  ${shownName(key)}: the store went back to an older grant`);
    if (status.frozenDeletions.length > 0)
      print(
        `${String(status.frozenDeletions.length)} deletions are frozen, because so many at once look like an accident. Put the files back, or run with --force.`,
      );
    for (const { name, recovered } of mirrors)
      if (recovered > 0)
        print(
          `mirror ${name}: ${String(recovered)} ${recovered === 1 ? 'document' : 'documents'} given back to the store, which had lost them`,
        );
    for (const mirror of mirrors) if (mirror.state !== 'in step') print(`mirror ${mirror.name}: ${describeMirror(mirror)}`);
    for (const { directory, problem } of peers) if (problem !== undefined) print(`peer ${directory}: ${problem.reason}. ${problem.remedy}`);
    for (const { directory, engine } of peers)
      for (const { name, reason } of engine.refusals) print(`refused (${directory})  ${name}: ${reason}`);
    const changes = `${String(actions.length)} ${actions.length === 1 ? 'change' : 'changes'}`;
    if (!isWell) print(`Done, ${changes}; look at what is said above.`);
    else print(actions.length === 0 ? 'In sync; nothing to do.' : `In sync after ${changes}.`);
  }
  return isWell ? 0 : EXIT_ATTENTION;
}

function problemsOf({ refusals, frozenDeletions, loginDue, state }: EngineStatus) {
  return { state, refusals, frozenDeletions, loginDue };
}
