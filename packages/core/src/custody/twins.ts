import { digestOf } from '../documents/digest.js';
import { isCredentialKey, type DocumentKey } from '../documents/document-key.js';
import { credentialFrom, readDocument, type CredentialDocument, type Document } from '../documents/document.js';
import { isOtherAccount, withGrantOf } from '../documents/grant.js';
import type { Fingerprint, Hasher, TokenId } from '../documents/hasher.js';
import type { HostSections } from '../documents/host-sections.js';
import type { JsonObject } from '../documents/strict-json.js';
import { extendLineage } from '../planning/lineage.js';
import type { BaseRecords } from '../ports/base-records.js';
import type { Entry, TokenStore } from '../ports/token-store.js';

export interface TwinsParts {
  readonly store: TokenStore;
  readonly bases: BaseRecords;
  readonly hasher: Hasher;
  readonly hostSections: HostSections;
  readonly replicaId: string;
  readonly maxDocumentBytes: number;
  readonly tokenOf: (document: Document) => TokenId | undefined;
}

const TRIES = 10;

/** Documents that hold one refresh token under several names. One is visited, and the new grant goes to all. */
export class Twins {
  readonly #parts: TwinsParts;

  constructor(parts: TwinsParts) {
    this.#parts = parts;
  }

  /** Gives the grant of a document to the others that still hold what it replaced. Returns those that were written. */
  async give(
    key: DocumentKey,
    document: CredentialDocument,
    replaced: readonly TokenId[],
    grant: Fingerprint | undefined,
  ): Promise<DocumentKey[]> {
    const written: DocumentKey[] = [];
    for (const twin of this.#holding(key, grant)) {
      if (await this.#write(twin, document.fields, (token) => replaced.includes(token))) written.push(twin);
    }
    return written;
  }

  /** Gives a document the grant of the one in whose visit its token was used. */
  async takeFrom(source: DocumentKey, key: DocumentKey, entry: Entry): Promise<boolean> {
    const found = (await this.#parts.store.read([source])).get(source);
    const [from, to] = [this.#read(source, found), this.#read(key, entry)];
    if (from === undefined || to === undefined || isOtherAccount(from.fields, to.fields)) return false;
    const spent = this.#parts.tokenOf(to);
    return this.#parts.tokenOf(from) !== spent && (await this.#write(key, from.fields, (token) => token === spent));
  }

  #holding(key: DocumentKey, grant: Fingerprint | undefined): DocumentKey[] {
    if (grant === undefined) return [];
    const { bases } = this.#parts;
    return [...bases.keys()].filter((other) => {
      const remote = bases.get(other)?.remote;
      return other !== key && isCredentialKey(other) && remote?.state === 'live' && remote.digest.fingerprint === grant;
    });
  }

  async #write(key: DocumentKey, from: JsonObject, isReplaced: (token: TokenId) => boolean): Promise<boolean> {
    const { store, replicaId, hasher, hostSections, tokenOf } = this.#parts;
    for (let attempt = 0; attempt < TRIES; attempt += 1) {
      const entry = (await store.read([key])).get(key);
      const document = this.#read(key, entry);
      const token = document && tokenOf(document);
      if (entry === undefined || document === undefined || token === undefined || !isReplaced(token)) return false;
      const next = credentialFrom(withGrantOf(document.fields, from));
      const lineage = extendLineage(entry.lineage, digestOf(next, hasher, hostSections).fingerprint);
      const [outcome] = await store.write([{ key, expected: entry.revision, content: next.text, lineage }], replicaId);
      if (outcome?.status === 'written') return true;
    }
    return false;
  }

  #read(key: DocumentKey, entry: Entry | undefined): CredentialDocument | undefined {
    if (entry?.state !== 'live') return undefined;
    const reading = readDocument(key, entry.content, this.#parts.maxDocumentBytes);
    return reading.state === 'document' && reading.document.kind === 'credential' ? reading.document : undefined;
  }
}
