import type { Fingerprint } from '../documents/hasher.js';

/** Fingerprints of a credential's last grants, oldest first. Kept beside the document in the store, through its deletion. */
export type Lineage = readonly Fingerprint[];

export const LINEAGE_LENGTH = 32;

export function newestOf(lineage: Lineage): Fingerprint | undefined {
  return lineage.at(-1);
}

/** True for a grant that was replaced: it is known, and it is not the newest. */
export function isStale(fingerprint: Fingerprint | undefined, lineage: Lineage): boolean {
  return fingerprint !== undefined && fingerprint !== newestOf(lineage) && lineage.includes(fingerprint);
}

/** The lineage with this grant as its newest. A grant that was there before moves, so that a restored one counts as new. */
export function extendLineage(lineage: Lineage, fingerprint: Fingerprint | undefined): Lineage {
  if (fingerprint === undefined || newestOf(lineage) === fingerprint) return lineage;
  return [...lineage.filter((known) => known !== fingerprint), fingerprint].slice(-LINEAGE_LENGTH);
}
