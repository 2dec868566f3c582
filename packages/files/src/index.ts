export * from './atomic-file.js';
export * from './directory-lock.js';
