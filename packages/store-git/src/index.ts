export * from './git-address.js';
export * from './git-store.js';
export type { Author } from './repository.js';
