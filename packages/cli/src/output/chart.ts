const EIGHTHS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/** A bar of at most so many cells, to an eighth of one. */
export function bar(value: number, largest: number, cells: number): string {
  if (largest <= 0) return '';
  const eighths = Math.round((value / largest) * cells * 8);
  return '█'.repeat(Math.floor(eighths / 8)) + (EIGHTHS[eighths % 8] ?? '');
}
