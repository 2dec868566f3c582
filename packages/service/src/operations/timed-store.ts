import { TokenmirrorError, type TokenStore } from '@tokenmirror/core';

export type StoreOperation = 'open' | 'list' | 'read' | 'write' | 'now';

export interface StoreTiming {
  readonly operation: StoreOperation;
  readonly seconds: number;
  /** The code of what it failed with. */
  readonly error: string | undefined;
}

/** The same store, whose operations are timed. */
export function timedStore(store: TokenStore, done: (timing: StoreTiming) => void): TokenStore {
  const timed = async <T>(operation: StoreOperation, work: () => Promise<T>): Promise<T> => {
    const begin = performance.now();
    let failure: string | undefined;
    try {
      return await work();
    } catch (error) {
      failure = error instanceof TokenmirrorError ? error.code : 'INTERNAL';
      throw error;
    } finally {
      done({ operation, seconds: (performance.now() - begin) / 1000, error: failure });
    }
  };
  return {
    description: store.description,
    open: (mode) => timed('open', () => store.open(mode)),
    list: (since) => timed('list', () => store.list(since)),
    read: (keys) => timed('read', () => store.read(keys)),
    write: (changes, author, how) => timed('write', () => store.write(changes, author, how)),
    now: () => timed('now', () => store.now()),
    close: () => store.close(),
    ...(store.watch === undefined ? {} : { watch: (hint: () => void) => watchOf(store, hint) }),
    ...(store.history === undefined ? {} : { history: store.history }),
  };
}

function watchOf(store: TokenStore, hint: () => void): ReturnType<NonNullable<TokenStore['watch']>> {
  if (store.watch === undefined) throw new Error('the store cannot be watched');
  return store.watch(hint);
}
