import { TokenmirrorError, type TokenStore } from '@tokenmirror/core';
import type { Settings } from '../options/settings.js';
import type { StoreProvider, StoreRole } from './store-provider.js';

export class PostgresProvider implements StoreProvider {
  readonly name = 'postgres';
  readonly priority = 40;
  readonly schemes = ['postgres:', 'postgresql:'];

  isConfigured(settings: Settings): boolean {
    return settings['pg-dsn'] !== undefined;
  }

  async create(settings: Settings, _: StoreRole, url?: string): Promise<TokenStore> {
    const { PostgresStore } = await import('@tokenmirror/store-postgres');
    const dsn = url ?? settings['pg-dsn'];
    if (dsn === undefined)
      throw new TokenmirrorError(
        'STORE_INVALID',
        'Postgres is named as the store, but not how to reach it',
        'Set PGSTORE_DSN to a postgres:// URL.',
      );
    return new PostgresStore({
      dsn,
      schema: settings['pg-schema'],
      authTable: settings['pg-auth-table'],
      configTable: settings['pg-config-table'],
      historyLength: settings['history-length'],
      timeoutMs: settings['store-timeout'],
    });
  }
}
