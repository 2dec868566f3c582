import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { config as loadDotenv } from 'dotenv';
import { distance } from 'fastest-levenshtein';
import { parse } from 'yaml';
import type { z } from 'zod';
import { messageOf, TokenmirrorError } from '@tokenmirror/core';
import { environmentOf, OPTION_NAMES, OPTIONS, optionSpec, type OptionName } from './option-table.js';
import { VALUE_SCHEMAS } from './option-values.js';

type ValueOf<Name extends OptionName> = z.output<(typeof VALUE_SCHEMAS)[(typeof OPTIONS)[Name]['type']]>;
type HasDefault<Name extends OptionName> = (typeof OPTIONS)[Name] extends { default: string } | { type: 'flag' } ? true : false;

/** The value of every option. */
export type Settings = { readonly [Name in OptionName]: HasDefault<Name> extends true ? ValueOf<Name> : ValueOf<Name> | undefined };

export interface SettingsSources {
  /** Given on the command line, by option name. */
  readonly flags: Readonly<Record<string, unknown>>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Where `.env` and `tokenmirror.yaml` are looked for. */
  readonly directory: string;
}

export const OPTIONS_FILE = 'tokenmirror.yaml';
/** Names a file with further variables: a service manager's own files are no place for secrets. */
export const ENVIRONMENT_FILE_VARIABLE = 'TOKENMIRROR_ENVIRONMENT_FILE';

/**
 * Reads every option: command line, then environment (with `.env`), then `tokenmirror.yaml`, then the default.
 * @throws TokenmirrorError OPTION_INVALID, which names the option, where it was set and what is expected
 */
export function readSettings({ flags, environment, directory }: SettingsSources): Settings {
  const dotenv: Record<string, string> = {};
  loadDotenv({ path: resolve(directory, '.env'), processEnv: dotenv, quiet: true });
  const named = environment[ENVIRONMENT_FILE_VARIABLE];
  const fromAgent: Record<string, string> = {};
  if (named !== undefined && named !== '') {
    const { error } = loadDotenv({ path: named, processEnv: fromAgent, quiet: true });
    if (error !== undefined && (error as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new TokenmirrorError('OPTION_INVALID', `${named} cannot be read (${messageOf(error)})`, 'Check its rights.', { cause: error });
  }
  const variables = { ...dotenv, ...fromAgent, ...environment };
  const file = readOptionsFile(resolve(directory, OPTIONS_FILE));
  const settings = OPTION_NAMES.map((name) => {
    const found = fromFlags(name, flags) ?? fromEnvironment(name, variables) ?? fromFile(name, file) ?? fromDefault(name);
    return [name, found === undefined ? undefined : parseValue(name, found)];
  });
  return Object.fromEntries(settings) as Settings;
}

/** Options that differ, by name. */
export function changedOptions(before: Settings, after: Settings): OptionName[] {
  return OPTION_NAMES.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
}

/** The known name that was probably meant. */
export function closest(name: string, known: readonly string[]): string | undefined {
  const [best] = known.map((candidate) => ({ candidate, far: distance(name, candidate) })).sort((a, b) => a.far - b.far);
  return best !== undefined && best.far <= Math.max(2, name.length / 3) ? best.candidate : undefined;
}

/** Variables that look like options of ours and are none. */
export function unknownVariables(environment: Readonly<Record<string, string | undefined>>): string[] {
  const known = new Set([ENVIRONMENT_FILE_VARIABLE, ...OPTION_NAMES.flatMap((name) => environmentOf(name))]);
  return Object.keys(environment).filter(
    (name) => name.startsWith('TOKENMIRROR_') && !name.startsWith('TOKENMIRROR_TEST_') && !known.has(name),
  );
}

interface Found {
  readonly value: unknown;
  readonly where: string;
}

function fromFlags(name: OptionName, flags: Readonly<Record<string, unknown>>): Found | undefined {
  const value = flags[name];
  return value === undefined ? undefined : { value, where: `--${name}` };
}

function fromEnvironment(name: OptionName, variables: Readonly<Record<string, string | undefined>>): Found | undefined {
  for (const variable of environmentOf(name)) {
    for (const spelling of variable.startsWith('TOKENMIRROR_') ? [variable] : [variable, variable.toLowerCase()]) {
      const value = variables[spelling];
      if (value !== undefined && value.trim() !== '') return { value: unquoted(value.trim()), where: spelling };
    }
  }
  return undefined;
}

function fromFile(name: OptionName, file: Readonly<Record<string, unknown>>): Found | undefined {
  const value = file[name];
  if (value === undefined || value === null) return undefined;
  const written = Array.isArray(value)
    ? value.join(',')
    : typeof value === 'boolean' || typeof value === 'string'
      ? value
      : JSON.stringify(value);
  return { value: written, where: `${name} in ${OPTIONS_FILE}` };
}

function fromDefault(name: OptionName): Found | undefined {
  const spec = optionSpec(name);
  if (spec.type === 'flag') return { value: false, where: 'default' };
  return spec.default === undefined ? undefined : { value: spec.default, where: 'default' };
}

function parseValue(name: OptionName, { value, where }: Found): unknown {
  const result = VALUE_SCHEMAS[optionSpec(name).type].safeParse(value);
  if (result.success) return result.data;
  const expected = result.error.issues[0]?.message ?? 'the value is not understood';
  throw new TokenmirrorError('OPTION_INVALID', `${where} has a value that cannot be used`, `Correct it: ${expected}.`);
}

function readOptionsFile(path: string): Readonly<Record<string, unknown>> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new TokenmirrorError('OPTION_INVALID', `${path} cannot be read (${messageOf(error)})`, 'Check its rights.', { cause: error });
  }
  let values: unknown;
  try {
    values = parse(text) ?? {};
  } catch (cause) {
    throw new TokenmirrorError('OPTION_INVALID', `${path} is not valid YAML`, 'Correct it, or remove it.', { cause });
  }
  if (typeof values !== 'object' || Array.isArray(values))
    throw new TokenmirrorError('OPTION_INVALID', `${path} is not a list of "option: value" lines`, 'Correct it, or remove it.');
  for (const name of Object.keys(values as object)) {
    if (Object.hasOwn(OPTIONS, name)) continue;
    const meant = closest(name, OPTION_NAMES);
    throw new TokenmirrorError(
      'OPTION_INVALID',
      `${path} has an unknown option "${name}"`,
      meant === undefined ? 'See `tokenmirror run --help` for the options there are.' : `Did you mean "${meant}"?`,
    );
  }
  return values as Record<string, unknown>;
}

/** Values may carry the quotes of an .env file that no shell read. */
function unquoted(value: string): string {
  return /^(["']).*\1$/s.test(value) ? value.slice(1, -1) : value;
}
