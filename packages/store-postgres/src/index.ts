export * from './dsn.js';
export * from './postgres-store.js';
