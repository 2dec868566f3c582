/** A value of the second version of Redis' protocol: an error is an `Error`. */
export type RespValue = string | number | null | Error | readonly RespValue[];

/** A command as an array of bulk strings. */
export function encodeCommand(...words: readonly string[]): string {
  return `*${String(words.length)}\r\n${words.map((word) => `$${String(Buffer.byteLength(word))}\r\n${word}\r\n`).join('')}`;
}

/** Cuts what arrives into values. */
export class RespReader {
  #rest: Buffer = Buffer.alloc(0);

  /** The values that are complete. @throws Error for what is not RESP */
  read(data: Buffer): RespValue[] {
    this.#rest = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data]);
    const values: RespValue[] = [];
    for (;;) {
      const found = parse(this.#rest, 0);
      if (found === undefined) return values;
      values.push(found.value);
      this.#rest = this.#rest.subarray(found.end);
    }
  }
}

interface Parsed {
  readonly value: RespValue;
  readonly end: number;
}

function parse(data: Buffer, at: number): Parsed | undefined {
  const lineEnd = data.indexOf('\r\n', at);
  if (lineEnd === -1) return undefined;
  const line = data.toString('utf8', at + 1, lineEnd);
  const next = lineEnd + 2;
  switch (String.fromCharCode(data[at] ?? 0)) {
    case '+':
      return { value: line, end: next };
    case '-':
      return { value: new Error(line), end: next };
    case ':':
      return { value: Number(line), end: next };
    case '$':
      return parseBulk(data, next, Number(line));
    case '*':
      return parseArray(data, next, Number(line));
    default:
      throw new Error('what came is not RESP');
  }
}

function parseBulk(data: Buffer, at: number, size: number): Parsed | undefined {
  if (size === -1) return { value: null, end: at };
  if (data.length < at + size + 2) return undefined;
  return { value: data.toString('utf8', at, at + size), end: at + size + 2 };
}

function parseArray(data: Buffer, start: number, length: number): Parsed | undefined {
  if (length === -1) return { value: null, end: start };
  const values: RespValue[] = [];
  let at = start;
  for (let n = 0; n < length; n += 1) {
    const found = parse(data, at);
    if (found === undefined) return undefined;
    values.push(found.value);
    at = found.end;
  }
  return { value: values, end: at };
}
