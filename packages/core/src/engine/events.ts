import type { DocumentKey } from '../documents/document-key.js';

/** What the engine did or could not do, for status, logs and whoever watches. Names and reasons only. */
export type EngineEvent =
  | {
      readonly type: 'acted';
      readonly key: DocumentKey;
      readonly action: ActedKind;
      readonly because: string;
      readonly conflicts: readonly string[];
    }
  | { readonly type: 'refused'; readonly name: string; readonly side: 'workspace' | 'store'; readonly reason: string }
  | { readonly type: 'mended'; readonly name: string }
  | { readonly type: 'login-due'; readonly key: DocumentKey }
  | { readonly type: 'deletions-frozen'; readonly keys: readonly DocumentKey[] }
  | { readonly type: 'outage'; readonly reason: string; readonly remedy: string }
  | { readonly type: 'healed'; readonly afterMs: number }
  | { readonly type: 'workspace-missing' }
  | { readonly type: 'rehydrating' };

export type ActedKind = 'pull' | 'push' | 'merge' | 'repair' | 'delete-local' | 'delete-remote';
