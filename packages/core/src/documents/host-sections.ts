import { joinConfig } from './config-sections.js';
import { readConfigDocument, type ConfigDocument } from './document.js';

/** Top-level keys of `config.yaml` that belong to the host: they do not travel, and are filled from the store only when absent. */
export type HostSections = ReadonlySet<string>;

export const DEFAULT_HOST_SECTIONS: readonly string[] = ['host', 'port', 'tls', 'auth-dir'];

export function isHostSection(name: string, hostSections: HostSections): boolean {
  return hostSections.has(name);
}

/**
 * The config of one side with the host's sections of another: in place where both have the section, at the end where only the other
 * has it. A section that only `base` has stays.
 */
export function withHostSectionsOf(base: ConfigDocument, host: ConfigDocument, hostSections: HostSections): ConfigDocument {
  const sections = new Map(base.config.sections);
  for (const [name, text] of host.config.sections) {
    if (isHostSection(name, hostSections)) sections.set(name, text);
  }
  const reading = readConfigDocument(joinConfig({ preamble: base.config.preamble, sections }));
  return reading.state === 'document' && reading.document.kind === 'config' ? reading.document : base;
}
