import { readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { parse } from 'yaml';
import { TokenmirrorError } from '@tokenmirror/core';

/** Where the files of a workspace are. Absolute paths. */
export interface Locations {
  readonly authDir: string;
  /** Absent where only an auth directory is known: then the config is not mirrored. */
  readonly configFile: string | undefined;
  readonly stateDir: string;
  /** Which credentials belong here, by their path below the auth directory; all of them where absent. */
  readonly takes?: (path: string) => boolean;
}

export interface LocationChoice {
  /** A root with `auths/` and `config/` below it. */
  readonly workspace?: string | undefined;
  readonly authDir?: string | undefined;
  /** The config file of CLIProxyAPI, whose `auth-dir` is read where `authDir` is not given. */
  readonly config?: string | undefined;
  readonly stateDir?: string | undefined;
}

/**
 * Finds the places of a workspace, by the most specific word: `authDir`, the config's `auth-dir`, the root.
 * @throws TokenmirrorError WORKSPACE_MISSING when a place that was named does not exist, OPTION_INVALID when they contradict each other
 */
export function locate(choice: LocationChoice): Locations {
  const { workspace, authDir, config } = choice;
  if (workspace !== undefined) {
    mustBeDirectory(resolve(workspace), 'The workspace');
  }
  const root = workspace === undefined ? undefined : resolve(workspace);
  const configFile = config !== undefined ? resolve(config) : root !== undefined ? join(root, 'config', 'config.yaml') : undefined;
  const named = authDir !== undefined ? resolve(authDir) : config !== undefined ? authDirIn(resolve(config)) : undefined;
  const auths = named ?? (root === undefined ? undefined : join(root, 'auths'));
  if (auths === undefined) {
    throw new TokenmirrorError(
      'OPTION_INVALID',
      'it is not said where the credentials are',
      'Give --workspace DIR, --auth-dir DIR, or --config FILE with an auth-dir in it.',
    );
  }
  if (named !== undefined) mustBeDirectory(auths, 'The auth directory');
  return {
    authDir: auths,
    configFile,
    stateDir:
      choice.stateDir !== undefined ? resolve(choice.stateDir) : root === undefined ? `${auths}.tokenmirror` : join(root, '.tokenmirror'),
  };
}

function authDirIn(configFile: string): string | undefined {
  let text: string;
  try {
    text = readFileSync(configFile, 'utf8');
  } catch {
    return undefined;
  }
  let value: unknown;
  try {
    value = (parse(text) as Record<string, unknown> | null)?.['auth-dir'];
  } catch {
    return undefined;
  }
  if (typeof value !== 'string' || value.trim() === '') return undefined;
  const expanded = value === '~' || value.startsWith('~/') ? join(homedir(), value.slice(1)) : value;
  return isAbsolute(expanded) ? expanded : resolve(dirname(configFile), expanded);
}

function mustBeDirectory(path: string, what: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new TokenmirrorError(
      'WORKSPACE_MISSING',
      `${what} ${path} does not exist or is not a directory`,
      `Check the path. If it is right, make it first: mkdir -p -m 700 ${path}`,
    );
  }
}
