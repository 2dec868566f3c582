import type { Digest } from '../documents/digest.js';
import { joinConfig } from '../documents/config-sections.js';
import { readConfigDocument, type ConfigDocument } from '../documents/document.js';
import { opensTheDoor } from './config-guard.js';

export interface ConfigSide {
  readonly document: ConfigDocument;
  readonly digest: Digest;
}

export interface ConfigMerge {
  readonly document: ConfigDocument;
  /** Top-level keys that both sides had changed to different texts; `(whole file)` where the merge had to be given up. */
  readonly conflicts: readonly string[];
}

/**
 * Three-way merge of `config.yaml` by top-level key, on the text, so that comments stay. A section that both changed is the
 * authority's. A result that does not parse, or that would open the proxy, is the authority's text altogether.
 */
export function mergeConfig(
  local: ConfigSide,
  remote: ConfigSide,
  base: { readonly local: Digest | undefined; readonly remote: Digest | undefined },
): ConfigMerge {
  const sections = new Map(remote.document.config.sections);
  const conflicts: string[] = [];
  let preamble = remote.document.config.preamble;
  const names = new Set([...Object.keys(remote.digest.fields), ...Object.keys(local.digest.fields)]);
  for (const name of names) {
    const here = local.digest.fields[name];
    const there = remote.digest.fields[name];
    if (here === there) continue;
    const changedHere = base.local === undefined ? here !== undefined : here !== base.local.fields[name];
    const changedThere = base.remote === undefined ? there !== undefined : there !== base.remote.fields[name];
    if (changedHere && changedThere) conflicts.push(name === '' ? '(header)' : name);
    if (!changedHere || changedThere) continue;
    if (name === '') preamble = local.document.config.preamble;
    else {
      const text = local.document.config.sections.get(name);
      if (text === undefined) sections.delete(name);
      else sections.set(name, text);
    }
  }
  const merged = readConfigDocument(joinConfig({ preamble, sections }));
  if (merged.state !== 'document' || merged.document.kind !== 'config') return { document: remote.document, conflicts: ['(whole file)'] };
  if (opensTheDoor(merged.document, remote.document) !== undefined) return { document: remote.document, conflicts: ['(whole file)'] };
  return { document: merged.document, conflicts };
}
