import {
  expiryOf,
  messageOf,
  readDocumentKey,
  shownName,
  TokenmirrorError,
  type EngineStatus,
  type MirrorStatus,
  type TokenStore,
} from '@tokenmirror/core';
import { lockOwner } from '@tokenmirror/files';
import { readReport, type DaemonReport } from '../daemon/status-file.js';
import type { ReplicaFactory } from '../replica-factory.js';

export interface StatusReport {
  readonly workspace: {
    readonly authDir: string;
    readonly configFile: string | undefined;
    readonly credentials: number;
    readonly hasConfig: boolean;
  };
  readonly store: StoreStatus;
  readonly mirrors: readonly MirrorReport[];
  readonly peers: readonly PeerStatus[];
  readonly daemon: { readonly running: boolean; readonly report: DaemonReport | undefined };
  readonly credentials: readonly CredentialStatus[];
}

export interface StoreStatus {
  readonly description: string;
  readonly reachable: boolean;
  readonly documents: number | undefined;
  readonly deleted: number | undefined;
  readonly problem: string | undefined;
  readonly remedy: string | undefined;
}

export interface MirrorReport extends StoreStatus {
  readonly name: string;
  /** What the daemon says of it, while it runs. */
  readonly copying: MirrorStatus | undefined;
}

export interface PeerStatus {
  readonly directory: string;
  readonly reachable: boolean;
  readonly credentials: number;
  /** What the daemon says of it, while it runs. */
  readonly engine: EngineStatus | undefined;
  readonly problem: { readonly reason: string; readonly remedy: string } | undefined;
}

export interface CredentialStatus {
  readonly name: string;
  readonly provider: string;
  readonly disabled: boolean;
  /** ms since the epoch, where the file says so. */
  readonly expires: number | undefined;
  readonly stored: boolean | undefined;
  readonly problem: string | undefined;
}

/** What is where, and whether it is well. Changes nothing, and works with the store down or no daemon running. */
export async function status(replicas: ReplicaFactory): Promise<StatusReport> {
  const locations = replicas.locations();
  const workspace = replicas.workspace(locations);
  const store = await replicas.authority(locations);
  const mirrors = await replicas.mirrors(store, locations);
  const owner = await lockOwner(locations.stateDir);
  const report = await readReport(locations.stateDir);
  const running = owner === undefined ? undefined : report;
  const stored = await lookAt(store);
  const { files, refused } = workspace.presence() === 'missing' ? { files: [], refused: [] } : await workspace.scan();
  const credentials: CredentialStatus[] = refused.map(({ name, reason }) => ({
    name,
    provider: '',
    disabled: false,
    expires: undefined,
    stored: undefined,
    problem: reason,
  }));
  for (const { key } of files.filter((file) => file.key.startsWith('auths/'))) {
    const reading = await workspace.read(key);
    const fields = reading.state === 'document' && reading.document.kind === 'credential' ? reading.document.fields : undefined;
    credentials.push({
      name: shownName(key.slice('auths/'.length)),
      provider: typeof fields?.['type'] === 'string' ? fields['type'] : '',
      disabled: fields?.['disabled'] === true,
      expires: fields === undefined ? undefined : expiryOf(fields),
      stored: stored.live?.has(key),
      problem: reading.state === 'document' ? undefined : reading.state === 'absent' ? 'it is gone' : reading.reason,
    });
  }
  return {
    workspace: {
      authDir: locations.authDir,
      configFile: locations.configFile,
      credentials: credentials.length,
      hasConfig: files.some(({ key }) => key === 'config/config.yaml'),
    },
    store: storeStatus(store, stored),
    mirrors: await Promise.all(
      mirrors.map(async ({ name, store: mirror }) => ({
        name,
        ...storeStatus(mirror, await lookAt(mirror)),
        copying: running?.mirrors.find(({ description }) => description === mirror.description),
      })),
    ),
    peers: await Promise.all(
      replicas.peerLocations(locations).map(async (place) => {
        const peer = replicas.workspace(place);
        const isThere = peer.presence() !== 'missing';
        const reported = running?.peers.find(({ directory }) => directory === place.authDir);
        return {
          directory: place.authDir,
          reachable: isThere,
          credentials: isThere ? (await peer.scan()).files.length : 0,
          engine: reported?.engine,
          problem: reported?.problem,
        };
      }),
    ),
    daemon: { running: owner !== undefined, report },
    credentials,
  };
}

type Look = Awaited<ReturnType<typeof lookAt>>;

function storeStatus({ description }: TokenStore, { live, deleted, problem, remedy }: Look): StoreStatus {
  return { description, reachable: live !== undefined, documents: live?.size, deleted, problem, remedy };
}

async function lookAt(store: TokenStore) {
  try {
    await store.open('look');
    const { entries } = await store.list();
    const documents = entries.filter(({ name }) => readDocumentKey(name).ok);
    return {
      live: new Set<string>(documents.filter(({ state }) => state === 'live').map(({ name }) => name)),
      deleted: documents.filter(({ state }) => state === 'deleted').length,
      problem: undefined,
      remedy: undefined,
    };
  } catch (error) {
    return {
      live: undefined,
      deleted: undefined,
      problem: messageOf(error),
      remedy: error instanceof TokenmirrorError ? error.remedy : undefined,
    };
  } finally {
    await store.close();
  }
}
