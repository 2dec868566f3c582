export * from './s3-address.js';
export * from './s3-store.js';
