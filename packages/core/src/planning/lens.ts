import { DEFAULT_POLICY, type ProviderPolicy } from '../custody/provider-policy.js';
import type { DocumentKey } from '../documents/document-key.js';
import { credentialFrom, type Document } from '../documents/document.js';
import { accessTokenOf, expiryOf, refreshTokenOf, withGrantOf, withoutRefreshToken } from '../documents/grant.js';
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

/** The lens through which each document is seen. */
export type LensOf = (key: DocumentKey) => Lens;

/** Credentials pass unchanged; each side keeps its own host sections of the config. */
export function workspaceLens(hostSections: HostSections): Lens {
  const keepHostOf = (travelling: Document, keeper: Document | undefined): Document =>
    travelling.kind === 'config' && keeper?.kind === 'config' ? withHostSectionsOf(travelling, keeper, hostSections) : travelling;
  return {
    present: (stored, local) => keepHostOf(stored, local),
    absorb: (local, stored) => keepHostOf(local, stored),
  };
}

/** Credentials without their refresh tokens, where these work only once. An edit there goes through to the whole document, and never erases the stored token. */
export function sealedLens(lens: Lens, policy: ProviderPolicy = DEFAULT_POLICY): Lens {
  return {
    present: (stored, local) => sealed(lens.present(stored, local), policy),
    absorb: (local, stored) => {
      const taken = lens.absorb(local, stored);
      if (taken.kind !== 'credential' || stored?.kind !== 'credential') return taken;
      const token = accessTokenOf(taken.fields);
      const isSame = token !== undefined && token === accessTokenOf(stored.fields);
      const isWhole = refreshTokenOf(stored.fields) !== undefined || refreshTokenOf(taken.fields) === undefined;
      return isSame && isWhole ? credentialFrom(withGrantOf(taken.fields, stored.fields)) : taken;
    },
  };
}

/** For CLIProxyAPI alone: a whole file that ended long ago is refreshed at once. */
const LONG_AGO = '2000-01-01T00:00:00Z';

/** The whole credential, to be refreshed at once; sealed as ever where `isClaimed` says that its token is another than the one that was claimed. */
export function unsealedLens(sealing: Lens, isClaimed: (stored: Document) => boolean): Lens {
  return {
    present: (stored, local) =>
      stored.kind === 'credential' && isClaimed(stored)
        ? credentialFrom({ ...stored.fields, expired: LONG_AGO })
        : sealing.present(stored, local),
    absorb: (local, stored) => sealing.absorb(local, stored),
  };
}

/** The sealed file with another expiry, for CLIProxyAPI alone: any changed value makes it use a credential again that it had given up. */
export function wakingLens(sealing: Lens): Lens {
  return {
    present: (stored, local) => {
      const shown = sealing.present(stored, local);
      if (shown.kind !== 'credential') return shown;
      const expires = expiryOf(shown.fields) ?? 0;
      return credentialFrom({ ...shown.fields, expired: new Date(expires + 1000).toISOString().replace(/\.\d+Z$/, 'Z') });
    },
    absorb: (local, stored) => sealing.absorb(local, stored),
  };
}

/** A file that is left as it is, for its proxy is at work on it. */
export function untouchedLens(sealing: Lens): Lens {
  return {
    present: (stored, local) => (local?.kind === 'credential' ? local : sealing.present(stored, local)),
    absorb: (local, stored) => sealing.absorb(local, stored),
  };
}

/** A document as it may stand where refresh tokens must not. */
export function sealed(document: Document, policy: ProviderPolicy = DEFAULT_POLICY): Document {
  const isSealed =
    document.kind === 'credential' && policy.sharingOf(document.fields) !== 'reusable' && refreshTokenOf(document.fields) !== undefined;
  return isSealed ? credentialFrom(withoutRefreshToken(document.fields)) : document;
}
