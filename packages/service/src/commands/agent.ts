import { mkdir, readFile, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { spawnSync } from 'node:child_process';
import { TokenmirrorError } from '@tokenmirror/core';
import { replaceFile } from '@tokenmirror/files';
import type { AgentDefinition, AgentKind, AgentOptions } from '../agent/agent-definition.js';
import { agentPlaces, type AgentPlaces } from '../agent/agent-places.js';
import { launchdPlist } from '../agent/launchd.js';
import { systemdUnit } from '../agent/systemd.js';
import type { ReplicaFactory } from '../replica-factory.js';

/** How long a daemon may take to end. */
const STOP_MS = 20_000;

/** What a service manager has to know of the process that asks. */
export interface AgentHost {
  readonly platform: NodeJS.Platform;
  readonly home: string;
  readonly uid: number;
  readonly user: string;
  readonly node: string;
  /** Where tokenmirror.yaml and .env are looked for. */
  readonly directory: string;
  /** The script that is `tokenmirror`. */
  readonly command: string;
}

export interface AgentPlan {
  readonly kind: AgentKind;
  readonly places: AgentPlaces;
  readonly text: string;
}

/** Names the service manager of a system. @throws TokenmirrorError PLATFORM_UNSUPPORTED */
export function agentKindOf({ platform }: AgentHost, isSystem: boolean): AgentKind {
  if (platform === 'darwin' && !isSystem) return 'launchd';
  if (platform === 'linux') return isSystem ? 'systemd-system' : 'systemd-user';
  throw new TokenmirrorError(
    'PLATFORM_UNSUPPORTED',
    `there is no service manager here that is known${isSystem ? ' for the whole system' : ''}`,
    'Start `tokenmirror run` by whatever starts programs on this system.',
  );
}

/** What would be written for the options that were given. Secrets stay in the environment file. @throws TokenmirrorError WORKSPACE_MISSING */
export function planAgent(replicas: ReplicaFactory, host: AgentHost, kind: AgentKind, options: AgentOptions): AgentPlan {
  replicas.locations();
  const places = agentPlaces(kind, host.home, host.uid);
  const definition: AgentDefinition = {
    name: places.name,
    node: host.node,
    command: host.command,
    workingDirectory: host.directory,
    options,
    environmentFile: places.environmentFile,
    home: host.home,
    logFile: places.logFile,
    user: kind === 'systemd-system' ? host.user : undefined,
  };
  const text = kind === 'launchd' ? launchdPlist(definition) : systemdUnit(definition, kind === 'systemd-user' ? 'user' : 'system');
  return { kind, places, text };
}

/** Writes the file, and the variables into one that only this user can read, and starts the daemon. @throws TokenmirrorError SERVICE_FAILED */
export async function installAgent({ kind, places, text }: AgentPlan, variables: Readonly<Record<string, string>>): Promise<void> {
  for (const directory of [
    dirname(places.file),
    dirname(places.environmentFile),
    ...(places.logFile === undefined ? [] : [dirname(places.logFile)]),
  ])
    await mkdir(directory, { recursive: true, mode: 0o700 });
  if (Object.keys(variables).length > 0)
    await replaceFile(places.environmentFile, mergedVariables(await textOf(places.environmentFile), variables));
  if (existsSync(places.file)) await stopAgent(kind, places);
  await replaceFile(places.file, text);
  for (const command of places.start) run(command);
}

/** Lines of `NAME=value`, the given ones in the place of those of the same name. */
export function mergedVariables(before: string, variables: Readonly<Record<string, string>>): string {
  const kept = before.split('\n').filter((line) => line !== '' && !Object.hasOwn(variables, line.split('=')[0] ?? ''));
  const added = Object.entries(variables).map(([name, value]) => `${name}=${quoted(value)}`);
  return `${[...kept, ...added].join('\n')}\n`;
}

/** As systemd and dotenv read it alike: what stands between single quotes is taken as it is. */
function quoted(value: string): string {
  return value.includes("'") ? `"${value}"` : `'${value}'`;
}

async function textOf(path: string): Promise<string> {
  return readFile(path, 'utf8').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  });
}

/** launchd answers before the daemon has ended, and takes no new one until then. */
async function stopAgent(kind: AgentKind, places: AgentPlaces): Promise<void> {
  for (const command of places.stop) run(command, 'ignore');
  if (kind !== 'launchd') return;
  const [program = '', ...args] = places.show;
  const end = performance.now() + STOP_MS;
  while (performance.now() < end && spawnSync(program, args, { stdio: 'ignore' }).status === 0) await delay(200);
}

/** Stops the daemon and removes the file. Returns whether there was one. */
export async function uninstallAgent(kind: AgentKind, places: AgentPlaces): Promise<boolean> {
  if (!existsSync(places.file)) return false;
  await stopAgent(kind, places);
  await rm(places.file, { force: true });
  if (kind !== 'launchd') run(places.start[0] ?? [], 'ignore');
  return true;
}

/** Shows what the service manager says, or the log, on this terminal. Returns what the program exited with. */
export function showAgent(command: readonly string[]): number {
  const [program = '', ...args] = command;
  return spawnSync(program, args, { stdio: 'inherit' }).status ?? 1;
}

function run([program = '', ...args]: readonly string[], failure: 'throw' | 'ignore' = 'throw'): void {
  const { status, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (status === 0 || failure === 'ignore') return;
  throw new TokenmirrorError(
    'SERVICE_FAILED',
    `${program} ${args[0] ?? ''} failed: ${(error?.message ?? stderr).trim()}`,
    'The file was written. Start it by hand, or remove it with `tokenmirror service uninstall`.',
  );
}
