import type { Custody } from '../custody/custody.js';
import { digestOf } from '../documents/digest.js';
import type { DocumentKey } from '../documents/document-key.js';
import { credentialFrom, type CredentialDocument } from '../documents/document.js';
import { withLocal, type Base } from '../planning/base.js';
import type { Clock } from '../ports/clock.js';
import type { BaseRecords } from '../ports/base-records.js';
import type { Workspace } from '../ports/workspace.js';
import type { Hasher } from '../documents/hasher.js';
import type { HostSections } from '../documents/host-sections.js';
import type { Observed, Verdict } from './observer.js';
import { FIRST_LOOK_MS, SETTLING_MS, type Repairs } from './repairs.js';

export interface RetirementParts {
  readonly workspace: Workspace;
  readonly bases: BaseRecords;
  readonly hasher: Hasher;
  readonly hostSections: HostSections;
  readonly clock: Clock;
  readonly repairs: Repairs;
  readonly custody: Custody;
}

/** How long a credential must have stayed disabled before its file is removed. */
const RETIRED_MS = 500;

/**
 * Deletes a local credential so that it stays deleted. CLIProxyAPI writes a file that was merely removed again, from memory; one that it has seen disabled it
 * lets go. So: note it, write `disabled: true`, wait until that stays, remove the file, and look whether it comes back.
 */
export class Retirement {
  readonly #parts: RetirementParts;
  readonly #since = new Map<DocumentKey, number>();

  constructor(parts: RetirementParts) {
    this.#parts = parts;
  }

  /** Takes the next step. `removed` when the file is gone; `again` when it was changed meanwhile. */
  async advance({ key, reading, local, base = { key } }: Observed): Promise<Verdict | 'again' | 'removed'> {
    const { workspace, bases, clock } = this.#parts;
    if (reading.state !== 'document' || local.state !== 'document' || reading.document.kind !== 'credential') return undefined;
    if (base.retiring?.retired !== local.digest.hash) return this.#disable({ key, text: reading.text, document: reading.document, base });

    const since = this.#since.get(key) ?? clock.monotonic();
    this.#since.set(key, since);
    const remaining = since + RETIRED_MS - clock.monotonic();
    if (remaining > 0) return { lookAgainInMs: Math.min(remaining, Math.max(FIRST_LOOK_MS, RETIRED_MS - remaining)) };
    const removed = await workspace.remove(key, reading.text);
    if (removed.status === 'changed') return 'again';
    this.#since.delete(key);
    const { replaced } = withLocal({ ...base, local: local.digest }, undefined, clock.now());
    await bases.set({ key, ...(replaced === undefined ? {} : { replaced }) });
    return 'removed';
  }

  /** What to do after the file was removed. */
  get watch(): Verdict {
    return { verifyInMs: SETTLING_MS };
  }

  async #disable(found: {
    readonly key: DocumentKey;
    readonly text: string;
    readonly document: CredentialDocument;
    readonly base: Base;
  }): Promise<Verdict | 'again'> {
    const { key, text, document, base } = found;
    const { workspace, bases, hasher, hostSections, clock, repairs, custody } = this.#parts;
    const pause = repairs.pauseBefore(key);
    if (pause > 0) return { lookAgainInMs: pause };
    const original = digestOf(document, hasher, hostSections);
    const shown = custody.lensFor(key).present(document, document);
    const disabled = credentialFrom({ ...(shown.kind === 'credential' ? shown : document).fields, disabled: true });
    const retired = digestOf(disabled, hasher, hostSections);
    const { disabled: disabledBefore } = document.fields;
    const first = base.retiring ?? { original: original.hash, ...(disabledBefore === undefined ? {} : { disabledBefore }) };
    const noted: Base = { ...base, retiring: { ...first, retired: retired.hash } };
    await bases.set(noted);
    if (original.hash !== retired.hash) {
      const written = await workspace.write(key, disabled, text);
      if (written.status === 'changed') return 'again';
      repairs.written(key, base.retiring !== undefined);
      const { retiring } = noted;
      await bases.set({
        ...withLocal({ ...base, local: original }, retired, clock.now()),
        ...(retiring === undefined ? {} : { retiring }),
      });
    }
    this.#since.set(key, clock.monotonic());
    return { lookAgainInMs: FIRST_LOOK_MS };
  }
}
