import { CONFIG_KEY, type DocumentKey } from './document-key.js';
import { readConfig, type ConfigSections } from './config-sections.js';
import { isJsonObject, parseStrictJson, type JsonObject } from './strict-json.js';

export interface CredentialDocument {
  readonly kind: 'credential';
  /** The file as it was read or is to be written. */
  readonly text: string;
  readonly fields: JsonObject;
}

export interface ConfigDocument {
  readonly kind: 'config';
  /** The file with LF line endings. */
  readonly text: string;
  readonly config: ConfigSections;
  /** The parsed values by top-level key, to look at and never to write. */
  readonly values: Readonly<Record<string, unknown>>;
}

export type Document = CredentialDocument | ConfigDocument;

/** What a text turned out to be. A blank one never replaces anything; a refused one stays where it is and is shown to the operator. */
export type Reading =
  | { readonly state: 'document'; readonly document: Document }
  | { readonly state: 'blank'; readonly reason: string }
  | { readonly state: 'refused'; readonly reason: string; readonly malformed: boolean };

/** Default for the largest document, in bytes. */
export const DEFAULT_MAX_DOCUMENT_BYTES = 1024 * 1024;

/** What a store hands over for a content that it cannot make out, and that must not be overwritten: it is there, and may be readable for others. */
export const UNREADABLE = '\0unreadable';

const decoder = new TextDecoder('utf-8', { fatal: true });

/** Reads the content of a document from bytes of unknown origin. */
export function readDocument(key: DocumentKey, content: Uint8Array | string, maxBytes = DEFAULT_MAX_DOCUMENT_BYTES): Reading {
  const size = typeof content === 'string' ? Buffer.byteLength(content) : content.byteLength;
  if (size > maxBytes) return refused(`it has ${String(size)} bytes, more than the ${String(maxBytes)} allowed`);
  let text: string;
  try {
    text = typeof content === 'string' ? content : decoder.decode(content);
  } catch {
    return refused('it is not valid UTF-8');
  }
  if (text === UNREADABLE) return refused('it cannot be decrypted: it was changed or moved, or the cluster lost its identity');
  if (text.trim() === '') return { state: 'blank', reason: 'it is empty' };
  return key === CONFIG_KEY ? readConfigDocument(text) : readCredential(text);
}

export function credentialFrom(fields: JsonObject): CredentialDocument {
  return { kind: 'credential', text: JSON.stringify(fields), fields };
}

function readCredential(text: string): Reading {
  const json = parseStrictJson(text);
  if (!json.ok) return refused(json.reason, json.malformed);
  if (!isJsonObject(json.value)) return refused('it is not a JSON object');
  if (Object.keys(json.value).length === 0) return { state: 'blank', reason: 'it is an empty object' };
  return { state: 'document', document: { kind: 'credential', text, fields: json.value } };
}

export function readConfigDocument(text: string): Reading {
  const normalised = text.replace(/\r\n?/g, '\n');
  if (normalised.includes('\0')) return refused('it has a NUL character');
  const reading = readConfig(normalised);
  if (!reading.ok) return refused(reading.reason, true);
  return { state: 'document', document: { kind: 'config', text: normalised, config: reading.sections, values: reading.values } };
}

function refused(reason: string, malformed = false): Reading {
  return { state: 'refused', reason, malformed };
}
