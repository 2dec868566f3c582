export * from './base-journal.js';
export * from './config-file.js';
export * from './directory-workspace.js';
export * from './locations.js';
export * from './marker.js';
export * from './visit-files.js';
export * from './workspace-source.js';
