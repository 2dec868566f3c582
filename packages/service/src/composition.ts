import { container, type DependencyContainer } from './injection.js';
import type { Log } from '@tokenmirror/core';
import type { Settings } from './options/settings.js';
import { FilesystemProvider } from './stores/filesystem-provider.js';
import { GitProvider } from './stores/git-provider.js';
import { PostgresProvider } from './stores/postgres-provider.js';
import { S3Provider } from './stores/s3-provider.js';
import { SETTINGS, STORE_PROVIDER } from './stores/store-provider.js';
import { LOG } from './replica-factory.js';

/** The composition root: everything that can be injected, registered once. A new kind of store is one line here. */
export function compose(settings: Settings, log: Log): DependencyContainer {
  const composition = container.createChildContainer();
  composition.register(SETTINGS, { useValue: settings });
  composition.register(LOG, { useValue: log });
  composition.register(STORE_PROVIDER, { useClass: FilesystemProvider });
  composition.register(STORE_PROVIDER, { useClass: PostgresProvider });
  composition.register(STORE_PROVIDER, { useClass: S3Provider });
  composition.register(STORE_PROVIDER, { useClass: GitProvider });
  return composition;
}
