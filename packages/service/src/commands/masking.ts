import { isGrantField, isJsonObject, type Document, type Json } from '@tokenmirror/core';

const SECRET_NAME = /token|secret|password|passwd|key|cookie|authorization|credential|session|header|proxy|signature/i;

/** A document as `name: value` lines that may be shown: whatever could authenticate is masked, a whole subtree at a time. */
export function maskedLines(document: Document): readonly (readonly [name: string, value: string])[] {
  const values = document.kind === 'credential' ? document.fields : (document.values as Readonly<Record<string, Json>>);
  return Object.entries(values).map(([name, value]) => [name, JSON.stringify(masked(name, value))]);
}

function masked(name: string, value: Json): Json {
  if (isDate(value)) return value;
  if (isGrantField(name) || SECRET_NAME.test(name)) return blackedOut(value);
  if (isJsonObject(value)) return Object.fromEntries(Object.entries(value).map(([inner, each]) => [inner, masked(inner, each)]));
  return Array.isArray(value) ? value.map((each: Json) => masked('', each)) : value;
}

function blackedOut(value: Json): Json {
  if (Array.isArray(value)) return value.map((each: Json) => blackedOut(each));
  if (isJsonObject(value)) return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, blackedOut(each)]));
  return typeof value === 'string' && value !== '' ? '••••••' : value;
}

function isDate(value: Json): boolean {
  return typeof value === 'string' && /^\d{4}-\d{2}-\d{2}T[\d:.]+(Z|[+-]\d{2}:\d{2})$/.test(value);
}
