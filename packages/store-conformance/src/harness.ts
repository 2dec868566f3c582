import type { TokenStore } from '@tokenmirror/core';

/** One empty place, and ways to get at it. */
export interface Place {
  /** A new store object on the same place, not opened: every call stands for another process. */
  connect(): TokenStore;
  /** What somebody who knows nothing of Tokenmirror does to the place. A missing method is a statement: the tests for it are left out. */
  readonly foreign?: {
    /** Writes `auths/<path>` or the config as CLIProxyAPI or a person would. */
    write(name: string, content: string): Promise<void>;
    /** Removes it; `seen` tells what the store then shows: a tombstone, nothing, or that it puts the document back. */
    remove(name: string): Promise<void>;
    readonly removalShows: 'deleted' | 'absent' | 'put back';
  };
  /** Takes away the cluster's id, as a wiped bucket or a dropped table would. */
  loseIdentity?(): Promise<void>;
  /** Raises the format of the stored data by `by`, keeping it readable by `oldestReader`. */
  setFormat(format: number, oldestReader: number): Promise<void>;
  destroy(): Promise<void>;
}

export interface Conformance {
  readonly name: string;
  /** Makes an empty place. */
  create(): Promise<Place>;
  /** How many writers race in the tests of compare-and-set. Default 20. */
  readonly writers?: number;
}

/** The two functions that jest, vitest and node:test have in common. */
export interface TestFramework {
  readonly describe: (name: string, define: () => void) => void;
  readonly test: (name: string, run: () => Promise<void>) => void;
}

export interface Session {
  readonly place: Place;
  /** Opened, and closed at the end of the test. */
  readonly open: () => Promise<TokenStore>;
}

/** Runs one test on an empty place of its own. */
export function onEmptyPlace(conformance: Conformance, run: (session: Session) => Promise<void>): () => Promise<void> {
  return async () => {
    const place = await conformance.create();
    const opened: TokenStore[] = [];
    const open = async (): Promise<TokenStore> => {
      const store = place.connect();
      opened.push(store);
      await store.open('create');
      return store;
    };
    try {
      await run({ place, open });
    } finally {
      for (const store of opened) await store.close();
      await place.destroy();
    }
  };
}
