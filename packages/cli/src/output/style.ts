import pc from 'picocolors';

/** Colours on terminals only, and never with NO_COLOR. */
export function colorsFor(stream: NodeJS.WriteStream): ReturnType<typeof pc.createColors> {
  return pc.createColors(stream.isTTY && process.env['NO_COLOR'] === undefined);
}
