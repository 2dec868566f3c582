export * from './until.js';
export * from './postgres-server.js';
export * from './test-postgres.js';
export * from './upstream-postgres.js';
export * from './temporary-directory.js';
export * from './daemon-process.js';
export * from './silent-proxy.js';
export * from './credential-files.js';
