export * from './postgres-store.js';
