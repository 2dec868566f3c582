import type { OptionName } from '../options/option-table.js';

/** A service manager that starts the daemon and keeps it running. */
export type AgentKind = 'launchd' | 'systemd-user' | 'systemd-system';

/** Options as they stand on a command line; `true` for one that takes no value. */
export type AgentOptions = Readonly<Partial<Record<OptionName, string | true>>>;

/** How the daemon is started by a service manager. No secret is in it: it stands in a file that others may read. */
export interface AgentDefinition {
  readonly name: string;
  /** Absolute: a service manager has a small PATH, and no home on some systems. */
  readonly node: string;
  readonly command: string;
  readonly workingDirectory: string;
  readonly options: AgentOptions;
  /** Where secrets are read from, one `NAME=value` a line; mode 0600. */
  readonly environmentFile: string;
  readonly home: string;
  /** For launchd, which keeps no journal. */
  readonly logFile: string | undefined;
  /** For systemd-system: who it runs as. */
  readonly user: string | undefined;
}

export function argumentsOf({ node, command, options }: AgentDefinition): readonly string[] {
  const flags = Object.entries(options).flatMap(([name, value]) => (value === true ? [`--${name}`] : [`--${name}`, value]));
  return [node, command, 'run', '--log-format', 'json', ...flags];
}
