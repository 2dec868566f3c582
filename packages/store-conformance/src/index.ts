export * from './harness.js';
export * from './suite.js';
