import type { Document } from '../documents/document.js';
import { withHostSectionsOf, type HostSections } from '../documents/host-sections.js';

/**
 * The view between store and workspace. The engine writes only what `present` gives to a workspace, and takes only what `absorb` gives
 * from it; equality, `verify` and tests compare through them.
 *
 * Law: `absorb(present(stored, local), stored)` has the content of `stored`.
 */
export interface Lens {
  /** What the workspace should hold for a stored document. `local` is what it holds now. */
  present(stored: Document, local: Document | undefined): Document;
  /** What the store should hold for a local document. `stored` is what it holds now. */
  absorb(local: Document, stored: Document | undefined): Document;
}

/** Credentials pass unchanged; each side keeps its own host sections of the config. */
export function workspaceLens(hostSections: HostSections): Lens {
  const keepHostOf = (travelling: Document, keeper: Document | undefined): Document =>
    travelling.kind === 'config' && keeper?.kind === 'config' ? withHostSectionsOf(travelling, keeper, hostSections) : travelling;
  return {
    present: (stored, local) => keepHostOf(stored, local),
    absorb: (local, stored) => keepHostOf(local, stored),
  };
}
