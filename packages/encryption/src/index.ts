export * from './encrypted-store.js';
export * from './envelope.js';
export * from './keyring.js';
