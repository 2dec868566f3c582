import { isCredentialKey, type DocumentKey } from '../documents/document-key.js';
import type { CredentialDocument } from '../documents/document.js';
import type { Workspace } from '../ports/workspace.js';
import type { ProviderPolicy } from './provider-policy.js';
import type { Sight } from './sight.js';

export interface CredentialFilesParts {
  readonly workspace: Workspace;
  readonly policy: ProviderPolicy;
  readonly sight: Sight;
}

/** The credentials as they stand in the files of a workspace, which no look at the store tells without reading all of it. */
export class CredentialFiles {
  readonly #parts: CredentialFilesParts;

  constructor(parts: CredentialFilesParts) {
    this.#parts = parts;
  }

  /** Every credential for which it matters who knows its token, and whether its file holds one. `seen` is told of all of them. */
  async read(
    seen: (key: DocumentKey, document: CredentialDocument) => void,
  ): Promise<{ readonly key: DocumentKey; readonly isWhole: boolean }[]> {
    const { workspace, policy, sight } = this.#parts;
    const found: { key: DocumentKey; isWhole: boolean }[] = [];
    for (const key of await this.#keys()) {
      const reading = await workspace.read(key);
      if (reading.state !== 'document' || reading.document.kind !== 'credential') continue;
      seen(key, reading.document);
      if (policy.sharingOf(reading.document.fields) !== 'reusable')
        found.push({ key, isWhole: sight.tokenOf(reading.document) !== undefined });
    }
    return found;
  }

  /** Files that hold a token, or may; without those that are known of. */
  async whole(isKnown: (key: DocumentKey) => boolean): Promise<DocumentKey[]> {
    const { workspace, sight } = this.#parts;
    const whole: DocumentKey[] = [];
    for (const key of await this.#keys()) {
      if (isKnown(key)) continue;
      const reading = await workspace.read(key);
      const isWhole = reading.state === 'unsettled' || (reading.state === 'document' && sight.tokenOf(reading.document) !== undefined);
      if (isWhole) whole.push(key);
    }
    return whole;
  }

  async #keys(): Promise<DocumentKey[]> {
    const { workspace } = this.#parts;
    if (workspace.presence() === 'missing') return [];
    return (await workspace.scan()).files.map(({ key }) => key).filter(isCredentialKey);
  }
}
