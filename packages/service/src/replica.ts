import { setTimeout as delay } from 'node:timers/promises';
import {
  hasSubstance,
  isCredentialKey,
  messageOf,
  readDocument,
  readDocumentKey,
  type Engine,
  type Custodian,
  type CustodyEvent,
  type CustodyReport,
  type DocumentKey,
  type EngineEvent,
  type Mirror,
  TokenmirrorError,
  type MirrorEvent,
  type Session,
  type TokenStore,
} from '@tokenmirror/core';
import type { PeerReport } from './daemon/status-file.js';

/** What happens at a replica: at its workspace, at a mirror, or at a peer directory. */
export type ReplicaEvent = EngineEvent | CustodyEvent | MirrorEvent | PeerEvent | PeerTrouble;

export interface PeerEvent {
  readonly type: 'peer';
  /** The directory. */
  readonly peer: string;
  readonly event: EngineEvent | CustodyEvent;
}

/** A peer directory that cannot be kept in sync. */
export interface PeerTrouble {
  readonly type: 'peer-trouble';
  readonly peer: string;
  readonly reason: string;
  readonly remedy: string;
}

/** A further directory that is kept in sync with the authority, as a workspace of its own. */
export interface Peer {
  readonly directory: string;
  readonly engine: Engine;
  readonly session: Session;
}

export interface ReplicaParts {
  readonly id: string;
  readonly engine: Engine;
  /** Absent with custody: off. */
  readonly custodian: Custodian | undefined;
  readonly store: TokenStore;
  readonly session: Session;
  readonly mirrors: readonly Mirror[];
  readonly peers: readonly Peer[];
  /** True when the workspace holds a usable credential. */
  readonly isInUse: () => Promise<boolean>;
  readonly maxDocumentBytes: number;
  readonly emit: (event: ReplicaEvent) => void;
  /** Ends what the parts stand on: base records, workspaces, the store, the lock. */
  readonly release: () => Promise<void>;
}

/** How long mirrors may take to finish what they are at, in ms; what they did not come to is found by the next comparison. */
const MIRROR_FAREWELL_MS = 2000;
/** How long a daemon waits for its mirrors to fill an empty authority before it goes on and lets them do so beside it, in ms. */
const BOOTSTRAP_MS = 5000;
/** Passes over all places after which a one-shot sync ends, whatever goes on meanwhile. */
const LARGEST_ROUND = 4;
/** How often a stop looks whether open visits are over, in ms. */
const VISIT_LOOK_MS = 50;
/** Documents that are read at once when the authority is looked through for a usable one. */
const LOOKED_THROUGH = 50;

/** One workspace with its authority, its mirrors and its peer directories, opened. */
export class Replica {
  readonly #parts: ReplicaParts;
  #isProxyGone = false;
  readonly #peerProblems = new Map<string, { readonly reason: string; readonly remedy: string }>();

  constructor(parts: ReplicaParts) {
    this.#parts = parts;
  }

  get id(): string {
    return this.#parts.id;
  }

  get engine(): Engine {
    return this.#parts.engine;
  }

  get store(): TokenStore {
    return this.#parts.store;
  }

  /** What custody does here; `undefined` with custody: off. */
  get custody(): CustodyReport | undefined {
    return this.#parts.custodian?.status;
  }

  /** The daemon is about to stop: files are sealed, and claims stay. */
  ending(): void {
    this.#parts.custodian?.ending();
  }

  /** CLIProxyAPI uses a credential no more, for its provider refused the access token. */
  accessTokenDied(key: DocumentKey): void {
    this.#parts.custodian?.accessTokenDied(key);
  }

  /** CLIProxyAPI has exited for good: every claim is let go once its files are sealed. */
  proxyEnded(): void {
    this.#isProxyGone = true;
    this.#parts.custodian?.proxyEnded();
  }

  get mirrors(): readonly Mirror[] {
    return this.#parts.mirrors;
  }

  get peers(): readonly PeerReport[] {
    return this.#parts.peers.map(({ directory, engine }) => ({
      directory,
      engine: engine.status,
      problem: this.#peerProblems.get(directory),
    }));
  }

  /** One pass over everything, repeated as long as one place brought news for another. @throws TokenmirrorError of the store */
  async pass(): Promise<void> {
    const { engine, peers, mirrors } = this.#parts;
    await this.#bootstrap();
    await engine.pass();
    for (let round = 1; round <= LARGEST_ROUND; round += 1) {
      const before = this.#doneSoFar();
      for (const peer of peers) await this.#ofPeer(peer, () => peer.engine.pass());
      await Promise.all(mirrors.map((mirror) => mirror.settle()));
      if (this.#doneSoFar() === before) return;
      await engine.pass();
    }
  }

  /** Runs until `stop`. @throws TokenmirrorError for what waiting cannot mend */
  async run(ready: () => void): Promise<void> {
    const { engine, session, peers, mirrors } = this.#parts;
    await atMost(
      BOOTSTRAP_MS,
      this.#bootstrap().catch(() => undefined),
    );
    for (const peer of peers) void this.#ofPeer(peer, () => peer.engine.run(peer.session, () => undefined));
    await engine.run(session, () => {
      for (const mirror of mirrors) mirror.start();
      ready();
    });
  }

  /** Resolves when nothing is under way, and no refresh token stands in the workspace for a visit. */
  async settled(): Promise<void> {
    await this.#parts.engine.settled();
    while (this.#parts.custodian?.isBusy(this.#isProxyGone) === true && this.#parts.engine.status.outage === undefined)
      await delay(VISIT_LOOK_MS);
    for (const { engine } of this.#parts.peers) await engine.settled();
  }

  /** Lets documents under way finish, then ends `run`. */
  async stop(): Promise<void> {
    for (const { engine } of this.#parts.peers) await engine.stop();
    await this.#parts.engine.stop();
  }

  async close(): Promise<void> {
    await this.stop();
    await atMost(MIRROR_FAREWELL_MS, Promise.all(this.#parts.mirrors.map((mirror) => mirror.stop())));
    await this.#parts.release();
  }

  /** Opens the mirrors, so that they can be asked. Where neither the workspace nor the authority holds a usable credential, they fill the authority first. */
  async #bootstrap(): Promise<void> {
    const { mirrors, isInUse } = this.#parts;
    if (mirrors.length === 0) return;
    await atMost(BOOTSTRAP_MS, Promise.all(mirrors.map((mirror) => mirror.connect())));
    if ((await isInUse()) || (await this.#isAuthorityInUse())) return;
    for (const mirror of mirrors) await mirror.settle();
  }

  async #isAuthorityInUse(): Promise<boolean> {
    const { store, maxDocumentBytes } = this.#parts;
    const { entries } = await store.list();
    const keys = entries.flatMap(({ name, state }) => {
      const reading = readDocumentKey(name);
      return reading.ok && isCredentialKey(reading.key) && state === 'live' ? [reading.key] : [];
    });
    for (let at = 0; at < keys.length; at += LOOKED_THROUGH) {
      const some = keys.slice(at, at + LOOKED_THROUGH);
      const found = await store.read(some);
      const isUsable = some.some((key) => {
        const entry = found.get(key);
        const reading = entry?.state === 'live' ? readDocument(key, entry.content, maxDocumentBytes) : undefined;
        return reading?.state === 'document' && reading.document.kind === 'credential' && hasSubstance(reading.document.fields);
      });
      if (isUsable) return true;
    }
    return false;
  }

  /** Everything that any place took or gave, counted. */
  #doneSoFar(): number {
    const { engine, peers, mirrors } = this.#parts;
    const acted = [engine, ...peers.map((peer) => peer.engine)].flatMap(({ status }) => Object.values(status.counts));
    return [...acted, ...mirrors.map(({ status }) => status.recovered)].reduce((sum, count) => sum + count, 0);
  }

  /** What goes wrong at a peer directory is told and shown, and stops nothing else. */
  async #ofPeer({ directory }: Peer, work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.#peerProblems.delete(directory);
    } catch (error) {
      const isOther = error instanceof TokenmirrorError && error.code === 'REPLICA_DUPLICATE';
      const reason = isOther ? `another replica keeps the peer directory ${directory} in sync too` : messageOf(error);
      const remedy = isOther ? 'Name it at one replica only.' : error instanceof TokenmirrorError ? error.remedy : 'Please report this.';
      this.#peerProblems.set(directory, { reason, remedy });
      this.#parts.emit({ type: 'peer-trouble', peer: directory, reason, remedy });
    }
  }
}

/** Waits for work, but no longer than `ms`. */
async function atMost(ms: number, work: Promise<unknown>): Promise<void> {
  const isDone = new AbortController();
  const tooLong = delay(ms, undefined, { signal: isDone.signal }).catch(() => undefined);
  await Promise.race([work, tooLong]);
  isDone.abort();
}
