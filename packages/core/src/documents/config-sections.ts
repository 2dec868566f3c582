import { parseDocument, isMap, isScalar } from 'yaml';

/**
 * A `config.yaml` cut at its top-level keys: each section is the text of one key with the comments right above it. The text is kept as
 * it was written, so that a merge of two configs keeps comments, order and style.
 */
export interface ConfigSections {
  /** What stands before the first key: document markers and a header comment set off by a blank line. */
  readonly preamble: string;
  readonly sections: ReadonlyMap<string, string>;
}

export type ConfigReading =
  | { readonly ok: true; readonly sections: ConfigSections; readonly values: Readonly<Record<string, unknown>> }
  | { readonly ok: false; readonly reason: string };

/** Cuts a config into sections. Line endings must be LF. */
export function readConfig(text: string): ConfigReading {
  let document;
  try {
    document = parseDocument(text, { uniqueKeys: true });
  } catch {
    return { ok: false, reason: 'it is not valid YAML' };
  }
  const problem = document.errors[0];
  if (problem !== undefined) {
    const line = problem.linePos?.[0].line;
    return { ok: false, reason: `it is not valid YAML${line === undefined ? '' : ` (line ${String(line)})`}` };
  }
  const root = document.contents;
  if (!isMap(root) || root.flow === true) return { ok: false, reason: 'it is not a YAML mapping with one key per line' };
  let values: unknown;
  try {
    values = document.toJS({ maxAliasCount: 100 });
  } catch {
    return { ok: false, reason: 'its aliases expand too far' };
  }
  const starts: { name: string; offset: number }[] = [];
  for (const { key } of root.items) {
    if (!isScalar(key) || !Array.isArray(key.range)) return { ok: false, reason: 'it has a top-level key that is not a plain name' };
    starts.push({ name: String(key.value), offset: key.range[0] });
  }
  return { ok: true, sections: cut(text, starts), values: values as Record<string, unknown> };
}

export function joinConfig({ preamble, sections }: ConfigSections): string {
  const parts = [...sections.values()].map((text) => (text.endsWith('\n') ? text : `${text}\n`));
  return preamble + parts.join('');
}

function cut(text: string, starts: readonly { name: string; offset: number }[]): ConfigSections {
  const lineStart = (offset: number): number => text.lastIndexOf('\n', offset - 1) + 1;
  const bounds = starts.map(({ offset }, index) => {
    const floor = index === 0 ? 0 : (starts[index - 1]?.offset ?? 0);
    let start = lineStart(offset);
    for (;;) {
      if (start <= floor) break;
      const above = lineStart(start - 1);
      if (above < floor || !/^#/.test(text.slice(above, start))) break;
      start = above;
    }
    return start;
  });
  const sections = new Map<string, string>();
  starts.forEach(({ name }, index) => {
    sections.set(name, text.slice(bounds[index], bounds[index + 1] ?? text.length));
  });
  return { preamble: text.slice(0, bounds[0] ?? text.length), sections };
}
