import { inject, injectable, injectAll } from '../injection.js';
import { TokenmirrorError, type TokenStore } from '@tokenmirror/core';
import { EncryptedStore, type Keyring } from '@tokenmirror/encryption';
import type { Settings } from '../options/settings.js';
import { encryptionKeys } from './encryption-keys.js';
import { s3Backup } from './s3-provider.js';
import { SETTINGS, STORE_PROVIDER, type StoreProvider, type StoreRole } from './store-provider.js';

export interface NamedStore {
  /** As it is configured, or described. */
  readonly name: string;
  readonly store: EncryptedStore;
}

/** Finds the store that is meant: by URL, by name, or the highest that is configured. */
@injectable()
export class StoreRegistry {
  readonly #settings: Settings;
  readonly #providers: readonly StoreProvider[];
  #keys: Keyring | undefined;

  constructor(@inject(SETTINGS) settings: Settings, @injectAll(STORE_PROVIDER) providers: StoreProvider[]) {
    this.#settings = settings;
    this.#providers = [...providers].sort((a, b) => b.priority - a.priority);
  }

  /** The one store that decides. */
  async authority(): Promise<EncryptedStore> {
    const named = this.#settings.store;
    if (named !== undefined) return this.named(named);
    return this.#encrypted(await this.#highest().create(this.#settings, 'authority'));
  }

  /** The stores that are kept as the authority is, in the order in which they are asked for what it lost. */
  async mirrors(): Promise<readonly NamedStore[]> {
    const s3 = await s3Backup(this.#settings);
    const backup = s3 && this.#encrypted(s3);
    const listed = await Promise.all(
      (this.#settings.mirrors ?? []).map(async (name) => ({ name, store: await this.named(name, 'mirror') })),
    );
    return [...(backup === undefined ? [] : [{ name: 's3-backup', store: backup }]), ...listed].map(({ name, store }) => ({
      name: name.includes(':') ? store.description : name,
      store,
    }));
  }

  /** The stores that are configured besides the authority, are no mirrors, and therefore not used. */
  unused(): readonly string[] {
    const { store, mirrors = [] } = this.#settings;
    const chosen = [store === undefined ? this.#highest() : this.#provider(store), ...mirrors.map((name) => this.#provider(name))];
    return this.#providers
      .filter((provider) => !chosen.includes(provider) && provider.name !== 'filesystem' && provider.isConfigured(this.#settings))
      .map(({ name }) => name);
  }

  #provider(nameOrUrl: string): StoreProvider | undefined {
    return this.#providers.find((provider) => provider.name === nameOrUrl || matches(provider, nameOrUrl));
  }

  /** @throws TokenmirrorError STORE_INVALID, without the URL, which may hold a password */
  async named(nameOrUrl: string, role: StoreRole = 'authority'): Promise<EncryptedStore> {
    const byName = this.#providers.find(({ name }) => name === nameOrUrl);
    if (byName !== undefined) return this.#encrypted(await byName.create(this.#settings, role));
    const byScheme = this.#providers.find((provider) => matches(provider, nameOrUrl));
    if (byScheme !== undefined) return this.#encrypted(await byScheme.create(this.#settings, role, nameOrUrl));
    const scheme = /^[a-z][a-z0-9+.-]*:/i.exec(nameOrUrl)?.[0];
    const known = this.#providers.flatMap(({ name, schemes }) => [name, ...schemes.map((each) => `${each}//…`)]).join(', ');
    throw new TokenmirrorError(
      'STORE_INVALID',
      `there is no kind of store for ${scheme === undefined ? 'that name' : `${scheme}//`}`,
      `Name one of: ${known}.`,
    );
  }

  /** @throws TokenmirrorError OPTION_INVALID */
  #encrypted(store: TokenStore): EncryptedStore {
    this.#keys ??= encryptionKeys(this.#settings);
    return new EncryptedStore(store, this.#keys);
  }

  #highest(): StoreProvider {
    const provider = this.#providers.find((candidate) => candidate.isConfigured(this.#settings));
    if (provider === undefined)
      throw new TokenmirrorError('STORE_INVALID', 'no store is configured', 'Give --store file:///directory, or set PGSTORE_DSN.');
    return provider;
  }
}

function matches(provider: StoreProvider, url: string): boolean {
  return provider.schemes.some((scheme) => url.toLowerCase().startsWith(scheme));
}
