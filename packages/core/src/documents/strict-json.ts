import jsonc from 'jsonc-parser';

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [name: string]: Json;
}

export type JsonReading =
  { readonly ok: true; readonly value: Json } | { readonly ok: false; readonly reason: string; readonly malformed: boolean };

const MAX_DEPTH = 64;

class Unfit extends Error {}

/**
 * Parses JSON and refuses what some place could not hold unchanged: duplicate keys (JSONB keeps the last), deep nesting, integers
 * beyond 2^53 (a JavaScript number loses digits), NUL characters and lone surrogates (Postgres stores neither).
 */
export function parseStrictJson(text: string): JsonReading {
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch {
    return { ok: false, malformed: true, reason: 'it is not valid JSON' };
  }
  try {
    inspect(text);
  } catch (error) {
    if (error instanceof Unfit) return { ok: false, malformed: false, reason: error.message };
    throw error;
  }
  return { ok: true, value };
}

function inspect(text: string): void {
  const names: Set<string>[] = [];
  let depth = 0;
  const enter = (): void => {
    depth += 1;
    if (depth > MAX_DEPTH) throw new Unfit(`it is nested deeper than ${String(MAX_DEPTH)} levels`);
  };
  jsonc.visit(text, {
    onObjectBegin: () => {
      enter();
      names.push(new Set());
    },
    onObjectEnd: () => {
      depth -= 1;
      names.pop();
    },
    onArrayBegin: enter,
    onArrayEnd: () => {
      depth -= 1;
    },
    onObjectProperty: (name) => {
      checkText(name);
      const seen = names.at(-1);
      if (seen?.has(name)) throw new Unfit('it has a duplicate key in one object');
      seen?.add(name);
    },
    onLiteralValue: (value: unknown) => {
      if (typeof value === 'string') checkText(value);
      else if (typeof value === 'number' && Number.isInteger(value) && !Number.isSafeInteger(value)) {
        throw new Unfit('it has an integer too large to be kept exactly');
      }
    },
  });
}

function checkText(text: string): void {
  if (text.includes('\0')) throw new Unfit('it has a NUL character in a string');
  if (!text.isWellFormed()) throw new Unfit('it has half a Unicode surrogate pair in a string');
}

export function isJsonObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
