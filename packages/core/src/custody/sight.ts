import { digestOf } from '../documents/digest.js';
import type { DocumentKey } from '../documents/document-key.js';
import { credentialFrom, readDocument, type CredentialDocument, type Document } from '../documents/document.js';
import { refreshTokenOf, withGrantOf } from '../documents/grant.js';
import type { Fingerprint, Hasher, TokenId } from '../documents/hasher.js';
import type { HostSections } from '../documents/host-sections.js';
import type { Observed } from '../engine/observer.js';
import { newestOf, type Lineage } from '../planning/lineage.js';
import type { BaseRecords } from '../ports/base-records.js';
import type { Entry } from '../ports/token-store.js';
import type { ProviderPolicy } from './provider-policy.js';

export interface SightParts {
  readonly bases: BaseRecords;
  readonly hasher: Hasher;
  readonly hostSections: HostSections;
  readonly policy: ProviderPolicy;
  readonly maxDocumentBytes: number;
}

/** One credential, in the file and in the store. */
export interface Look {
  readonly key: DocumentKey;
  readonly observed: Observed;
  readonly file: CredentialDocument | undefined;
  readonly fileToken: TokenId | undefined;
  readonly stored: CredentialDocument | undefined;
  readonly storedToken: TokenId | undefined;
  readonly lineage: Lineage;
}

/** What custody sees in a document: its token, its grant, whose it is, and which of two is newer. */
export class Sight {
  readonly #parts: SightParts;

  constructor(parts: SightParts) {
    this.#parts = parts;
  }

  /** False for a store that went back in time: this replica knows of a newer grant. */
  isNewest(key: DocumentKey, stored: CredentialDocument, lineage: Lineage): boolean {
    const grant = this.fingerprintOf(stored);
    const base = this.#parts.bases.get(key);
    const known = [base?.remote?.state === 'live' ? base.remote.digest.fingerprint : undefined, base?.local?.fingerprint];
    return newestOf(lineage) === grant && known.every((each) => each === undefined || lineage.includes(each));
  }

  look(observed: Observed): Look {
    const { key, remote } = observed;
    const file = observed.file?.kind === 'credential' ? observed.file : undefined;
    const stored = remote.state === 'document' && remote.document.kind === 'credential' ? remote.document : undefined;
    const lineage = remote.state === 'absent' ? [] : remote.lineage;
    return { key, observed, file, fileToken: file && this.tokenOf(file), stored, storedToken: stored && this.tokenOf(stored), lineage };
  }

  credentialIn(key: DocumentKey, entry: Entry | undefined): CredentialDocument | undefined {
    if (entry?.state !== 'live') return undefined;
    const reading = readDocument(key, entry.content, this.#parts.maxDocumentBytes);
    return reading.state === 'document' && reading.document.kind === 'credential' ? reading.document : undefined;
  }

  /** The refresh token of a credential for which it matters who knows it. */
  tokenOf(document: Document): TokenId | undefined {
    if (document.kind !== 'credential' || this.#parts.policy.sharingOf(document.fields) === 'reusable') return undefined;
    const token = refreshTokenOf(document.fields);
    return token === undefined ? undefined : this.#parts.hasher.tokenId(token);
  }

  accountOf({ fields }: CredentialDocument): string {
    return this.#parts.hasher.json('account', [fields['type'] ?? null, fields['email'] ?? null]);
  }

  fingerprintOf(document: CredentialDocument): Fingerprint | undefined {
    return this.#digestOf(document).fingerprint;
  }

  #digestOf(document: Document) {
    return digestOf(document, this.#parts.hasher, this.#parts.hostSections);
  }

  /** True for a file whose grant is not the one that was agreed on. */
  hasLost(stored: Document, local: Document | undefined): boolean {
    if (stored.kind !== 'credential' || local?.kind !== 'credential' || this.tokenOf(local) === undefined) return false;
    return this.fingerprintOf(stored) !== this.fingerprintOf(local);
  }

  /** The same look, with a file whose grant does not count. */
  withoutGrant(observed: Observed, stored: CredentialDocument): Observed {
    const { local } = observed;
    if (local.state !== 'document' || local.document.kind !== 'credential') return observed;
    const document = credentialFrom(withGrantOf(local.document.fields, stored.fields));
    return { ...observed, local: { ...local, document, absorbed: this.#digestOf(document) } };
  }
}
