export * from './change-log.js';
export * from './log-place.js';
export * from './log-store.js';
export { QUIET_MS } from './plain-copies.js';
