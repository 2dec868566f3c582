import { credentialFrom, type Document } from '../documents/document.js';
import { accessTokenOf, isSingleUse, refreshTokenOf, withGrantOf, withoutRefreshToken } from '../documents/grant.js';
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

/** Credentials without their refresh tokens, where these work only once. An edit there goes through to the whole document. */
export function sealedLens(lens: Lens): Lens {
  return {
    present: (stored, local) => {
      const shown = lens.present(stored, local);
      const isSealed = shown.kind === 'credential' && isSingleUse(shown.fields) && refreshTokenOf(shown.fields) !== undefined;
      return isSealed ? credentialFrom(withoutRefreshToken(shown.fields)) : shown;
    },
    absorb: (local, stored) => {
      const taken = lens.absorb(local, stored);
      if (taken.kind !== 'credential' || stored?.kind !== 'credential' || refreshTokenOf(taken.fields) !== undefined) return taken;
      const token = accessTokenOf(taken.fields);
      const isSame = token !== undefined && token === accessTokenOf(stored.fields);
      return isSame ? credentialFrom(withGrantOf(taken.fields, stored.fields)) : taken;
    },
  };
}
