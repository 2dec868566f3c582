/** Columns for people, aligned, without lines. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, ...rows];
  const widths = head.map((_, column) => lines.reduce((widest, line) => Math.max(widest, line[column]?.length ?? 0), 0));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** An instant as local time, to the second. */
export function localTime(at: number): string {
  return new Date(at).toLocaleString('sv-SE');
}

/** How far an instant is from now, in its two largest units. */
export function distance(at: number, now = Date.now()): string {
  const seconds = Math.round(Math.abs(at - now) / 1000);
  const units: [number, string][] = [
    [86_400, 'd'],
    [3600, 'h'],
    [60, 'min'],
    [1, 's'],
  ];
  const index = units.findIndex(([size]) => seconds >= size);
  const [size, unit] = units[index] ?? [1, 's'];
  const whole = Math.floor(seconds / size);
  const [smaller, smallerUnit] = units[index + 1] ?? [1, ''];
  const rest = smallerUnit === '' ? 0 : Math.floor((seconds % size) / smaller);
  const text = `${String(whole)} ${unit}${rest > 0 ? ` ${String(rest)} ${smallerUnit}` : ''}`;
  return at >= now ? `in ${text}` : `${text} ago`;
}
