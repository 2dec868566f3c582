export * from './auth-files.js';
export * from './errors-channel.js';
export * from './gate.js';
export * from './management-client.js';
export * from './probe.js';
export * from './refusal.js';
export * from './resp.js';
export * from './subscription.js';
