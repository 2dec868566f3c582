import type { InjectionToken } from '../injection.js';
import type { TokenStore } from '@tokenmirror/core';
import type { Settings } from '../options/settings.js';

/** What a store is used as: the one that decides, or a copy of it. */
export type StoreRole = 'authority' | 'mirror';

/** How one kind of store takes part: the composition asks every registered provider and injects the highest configured one. */
export interface StoreProvider {
  readonly name: string;
  /** The higher one is the authority where several are configured. */
  readonly priority: number;
  /** Schemes of the URLs that name such a store, with the colon. */
  readonly schemes: readonly string[];
  isConfigured(settings: Settings): boolean;
  /** The store that the settings configure, or the one that `url` names. Loads its libraries only now. */
  create(settings: Settings, role: StoreRole, url?: string): Promise<TokenStore>;
}

export const STORE_PROVIDER: InjectionToken<StoreProvider> = Symbol('StoreProvider');
export const SETTINGS: InjectionToken<Settings> = Symbol('Settings');
