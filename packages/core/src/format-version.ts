import { TokenmirrorError } from './errors.js';

/**
 * Stamped on everything of ours that lasts. `format` is the version that wrote it last; `oldestReader` is the oldest version that can
 * still work with it. An additive change raises `format` alone, so that two adjacent versions work side by side during a rolling update.
 */
export interface FormatStamp {
  readonly format: number;
  readonly oldestReader: number;
}

/** What this version writes. */
export const CURRENT_FORMAT: FormatStamp = { format: 1, oldestReader: 1 };

/**
 * Returns whether the data must be migrated first.
 * @throws TokenmirrorError FORMAT_NEWER when this version is too old for the data, FORMAT_DAMAGED when the stamp is not one.
 */
export function checkFormat(stamp: unknown, what: string, current = CURRENT_FORMAT): 'current' | 'older' {
  const { format, oldestReader } = (stamp ?? {}) as Partial<Record<keyof FormatStamp, unknown>>;
  if (!Number.isSafeInteger(format) || !Number.isSafeInteger(oldestReader)) {
    throw new TokenmirrorError(
      'FORMAT_DAMAGED',
      `${what} carries no format version`,
      'It was not written by Tokenmirror, or it was damaged. Name another place, or restore it from a copy.',
    );
  }
  if ((oldestReader as number) > current.format) {
    throw new TokenmirrorError(
      'FORMAT_NEWER',
      `${what} has format ${String(format)}, which needs a reader of format ${String(oldestReader)}; this version reads format ${String(current.format)}`,
      'Upgrade this Tokenmirror to the version that the other replicas run.',
    );
  }
  return (format as number) < current.format ? 'older' : 'current';
}
