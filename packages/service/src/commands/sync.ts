import { TokenmirrorError, type EngineEvent, type EngineStatus } from '@tokenmirror/core';
import type { ReplicaFactory } from '../replica.js';

export interface SyncResult {
  readonly status: EngineStatus;
  readonly actions: readonly Extract<EngineEvent, { type: 'acted' }>[];
}

/**
 * One pass, then the end.
 * @throws TokenmirrorError of the store, also when it went away during the pass
 */
export async function sync(replicas: ReplicaFactory): Promise<SyncResult> {
  const actions: Extract<EngineEvent, { type: 'acted' }>[] = [];
  const replica = await replicas.open((event) => {
    if (event.type === 'acted') actions.push(event);
  });
  try {
    await replica.engine.pass();
    const { status } = replica.engine;
    if (status.outage !== undefined) throw new TokenmirrorError('STORE_UNREACHABLE', status.outage.reason, status.outage.remedy);
    return { status, actions };
  } finally {
    await replica.close();
  }
}
