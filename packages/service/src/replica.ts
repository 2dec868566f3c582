import { setTimeout as delay } from 'node:timers/promises';
import {
  isCredentialKey,
  readDocument,
  readDocumentKey,
  type Engine,
  type EngineEvent,
  type Mirror,
  type MirrorEvent,
  type TokenStore,
} from '@tokenmirror/core';
import type { PeerReport } from './daemon/status-file.js';

/** What happens at a replica: at its workspace, at a mirror, or at a peer directory. */
export type ReplicaEvent = EngineEvent | MirrorEvent | PeerEvent;

export interface PeerEvent {
  readonly type: 'peer';
  /** The directory. */
  readonly peer: string;
  readonly event: EngineEvent;
}

export interface Session {
  readonly id: string;
  readonly host: string;
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
  readonly store: TokenStore;
  readonly session: Session;
  readonly mirrors: readonly Mirror[];
  readonly peers: readonly Peer[];
  /** Ends what the parts stand on: base records, workspaces, the store, the lock. */
  readonly release: () => Promise<void>;
}

/** How long mirrors may take to finish what they are at, in ms; what they did not come to is found by the next comparison. */
const MIRROR_FAREWELL_MS = 2000;
/** Documents that are read at once when the authority is looked through for a usable one. */
const LOOKED_THROUGH = 50;

/** One workspace with its authority, its mirrors and its peer directories, opened. */
export class Replica {
  readonly #parts: ReplicaParts;

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

  get mirrors(): readonly Mirror[] {
    return this.#parts.mirrors;
  }

  get peers(): readonly PeerReport[] {
    return this.#parts.peers.map(({ directory, engine }) => ({ directory, engine: engine.status }));
  }

  /** One pass over everything. @throws TokenmirrorError of the store */
  async pass(): Promise<void> {
    const { engine, peers, mirrors } = this.#parts;
    await this.#bootstrap();
    await engine.pass();
    for (const peer of peers) await peer.engine.pass();
    if (peers.length > 0) await engine.pass();
    await Promise.all(mirrors.map((mirror) => mirror.settle()));
  }

  /** Runs until `stop`. @throws TokenmirrorError for what waiting cannot mend */
  async run(ready: () => void): Promise<void> {
    const { engine, session, peers, mirrors } = this.#parts;
    await this.#bootstrap().catch(() => undefined);
    for (const mirror of mirrors) mirror.start();
    for (const peer of peers) {
      peer.engine
        .run(peer.session, () => undefined)
        .catch((error: unknown) => {
          engine.fail(error);
        });
    }
    await engine.run(session, ready);
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    await this.#parts.engine.settled();
    for (const { engine } of this.#parts.peers) await engine.settled();
  }

  /** Lets documents under way finish, then ends `run`. */
  async stop(): Promise<void> {
    for (const { engine } of this.#parts.peers) await engine.stop();
    await this.#parts.engine.stop();
  }

  async close(): Promise<void> {
    await this.stop();
    const farewell = new AbortController();
    const tooLong = delay(MIRROR_FAREWELL_MS, undefined, { signal: farewell.signal }).catch(() => undefined);
    await Promise.race([Promise.all(this.#parts.mirrors.map((mirror) => mirror.stop())), tooLong]);
    farewell.abort();
    await this.#parts.release();
  }

  /** Where the authority holds no usable credential, the mirrors are asked first, one after the other. */
  async #bootstrap(): Promise<void> {
    const { mirrors } = this.#parts;
    if (mirrors.length === 0 || (await this.#isInUse())) return;
    for (const mirror of mirrors) await mirror.settle();
  }

  async #isInUse(): Promise<boolean> {
    const { store } = this.#parts;
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
        return entry?.state === 'live' && readDocument(key, entry.content).state === 'document';
      });
      if (isUsable) return true;
    }
    return false;
  }
}
