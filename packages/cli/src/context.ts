import type { Command } from 'commander';
import { Option } from 'commander';
import {
  compose,
  createLog,
  optionSpec,
  OPTION_NAMES,
  readSettings,
  unknownVariables,
  type LeveledLog,
  type OptionName,
  type OptionSpec,
  type Settings,
} from '@tokenmirror/service';

import { redactErrors } from './output/report-error.js';

export type Container = ReturnType<typeof compose>;

export interface Invocation {
  readonly settings: Settings;
  readonly container: Container;
  readonly log: LeveledLog;
  /** The settings as they would be read now. @throws TokenmirrorError OPTION_INVALID */
  readonly readAgain: () => Settings;
}

const ARGUMENT_OF: Readonly<Record<OptionSpec['type'], string>> = {
  path: ' <path>',
  text: ' <text>',
  url: ' <url>',
  flag: '',
  duration: ' <duration>',
  days: ' <time>',
  size: ' <size>',
  count: ' <number>',
  names: ' <names>',
  ids: ' <ids>',
  paths: ' <paths>',
  addressing: ' <style>',
  custody: ' <setting>',
  switch: ' <yes|no>',
  listen: ' <address>',
  'notify-format': ' <format>',
  'log-level': ' <level>',
  'log-format': ' <format>',
};

/** Adds options of the table to a command. Secrets are not among them: a command line is visible to every user of the machine. */
export function withOptions(command: Command, leaveOut: readonly OptionName[] = []): Command {
  for (const name of OPTION_NAMES) {
    const spec = optionSpec(name);
    if (spec.secret === true || leaveOut.includes(name)) continue;
    const fallback = spec.default ?? spec.defaultNote;
    const description = fallback === undefined ? spec.description : `${spec.description} (default: ${fallback.replaceAll('`', '')})`;
    command.addOption(new Option(`--${name}${ARGUMENT_OF[spec.type]}`, description).helpGroup(`${spec.group}:`));
  }
  return command;
}

/** Reads the settings of a command that was called, and composes what it works with. */
export async function invoke(command: Command, overrides: Readonly<Partial<Record<OptionName, string>>> = {}): Promise<Invocation> {
  const given = command.opts<Record<string, unknown>>();
  const flags = Object.fromEntries(OPTION_NAMES.map((name) => [name, overrides[name] ?? given[camelCase(name)]]));
  const read = (): Settings => readSettings({ flags, environment: process.env, directory: process.cwd() });
  const settings = read();
  redactErrors(settings);
  const log = await createLog(settings);
  for (const variable of unknownVariables(process.env))
    log.warn('variable-unknown', { variable, remedy: 'It has no effect; see docs/configuration.md for the variables there are.' });
  return { settings, container: compose(settings, log), log, readAgain: read };
}

export function print(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

export function camelCase(name: string): string {
  return name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
