export * from './filesystem-store.js';
