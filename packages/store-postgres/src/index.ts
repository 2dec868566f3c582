export { negotiate } from './connections.js';
export * from './dsn.js';
export * from './postgres-store.js';
