export * from './database.js';
export { readForeignTable } from './embedded.js';
export type { PostgresPlace } from './postgres.js';
