import { exhaustive, shownName, type Action } from '@tokenmirror/core';
import type { ReplicaFactory } from '../replica-factory.js';

export interface PlannedChange {
  readonly name: string;
  readonly action: Exclude<Action['kind'], 'nothing' | 'adopt' | 'forget'>;
  readonly because: string;
  readonly conflicts: readonly string[];
}

/** What a pass would do now. Changes nothing, and may run beside a daemon. */
export async function diff(replicas: ReplicaFactory): Promise<readonly PlannedChange[]> {
  const { engine, close } = await replicas.look();
  try {
    const planned = await engine.preview();
    return [...planned].flatMap(([key, action]) => describe(shownName(key), action)).sort((a, b) => a.name.localeCompare(b.name));
  } finally {
    await close();
  }
}

function describe(name: string, action: Action): PlannedChange[] {
  const one = (because: string, conflicts: readonly string[] = []): PlannedChange[] => [
    { name, action: action.kind as PlannedChange['action'], because, conflicts },
  ];
  switch (action.kind) {
    case 'nothing':
    case 'adopt':
    case 'forget':
      return [];
    case 'pull':
    case 'push':
    case 'merge':
    case 'repair':
      return one(action.because, action.conflicts);
    case 'delete-local':
      return one('deleted in the store');
    case 'delete-remote':
      return one('deleted here');
    case 'refuse':
      return one(`${action.side}: ${action.reason}`);
    case 'recheck':
      return one('it vanished from the store without a deletion; it would be put back');
    case 'seek-grant':
      return one('the store went back to an older grant; the newest would be looked for in its history');
    default:
      return exhaustive(action);
  }
}
