import { TokenmirrorError, type EngineEvent, type EngineStatus, type MirrorStatus } from '@tokenmirror/core';
import type { PeerReport } from '../daemon/status-file.js';
import type { ReplicaFactory } from '../replica-factory.js';

export interface SyncResult {
  readonly status: EngineStatus;
  readonly actions: readonly Extract<EngineEvent, { type: 'acted' }>[];
  readonly mirrors: readonly MirrorStatus[];
  readonly peers: readonly PeerReport[];
}

/**
 * One pass, then the end.
 * @throws TokenmirrorError of the store, also when it went away during the pass
 */
export async function sync(replicas: ReplicaFactory): Promise<SyncResult> {
  const actions: Extract<EngineEvent, { type: 'acted' }>[] = [];
  const replica = await replicas.open((event) => {
    const acted = event.type === 'peer' ? event.event : event;
    if (acted.type === 'acted') actions.push(acted);
  });
  try {
    await replica.pass();
    const { status } = replica.engine;
    if (status.outage !== undefined) throw new TokenmirrorError('STORE_UNREACHABLE', status.outage.reason, status.outage.remedy);
    return { status, actions, mirrors: replica.mirrors.map((mirror) => mirror.status), peers: replica.peers };
  } finally {
    await replica.close();
  }
}
