/** At most this many documents may be deleted at once, whatever their share. */
const FREE_DELETIONS = 3;

/**
 * True when deleting `deletions` of `population` documents at once looks like an accident: more than half of them (and more than 3), or all
 * of them where there were several.
 */
export function isMassDeletion(deletions: number, population: number): boolean {
  if (deletions > FREE_DELETIONS && deletions * 2 > population) return true;
  return population > 1 && deletions >= population;
}
