import { readFileSync, realpathSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { resolve } from 'node:path';
import { confirm } from '@clack/prompts';
import type { Command } from 'commander';
import {
  agentKindOf,
  agentPlaces,
  custodyStatus,
  environmentOf,
  installAgent,
  OPTION_NAMES,
  optionSpec,
  planAgent,
  ReplicaFactory,
  showAgent,
  uninstallAgent,
  type AgentHost,
  type AgentKind,
  type AgentOptions,
  type AgentPlaces,
  type OptionName,
} from '@tokenmirror/service';
import { camelCase, invoke, print } from '../context.js';

/** With sudo, the daemon of the whole system runs as the user who called it: the credentials are theirs. */
function thisHost(): AgentHost {
  const { uid, username } = userInfo();
  const caller = uid === 0 ? process.env['SUDO_USER'] : undefined;
  return {
    platform: process.platform,
    home: caller === undefined ? homedir() : homeOf(caller),
    uid,
    user: caller ?? username,
    node: process.execPath,
    directory: process.cwd(),
    command: realpathSync(process.argv[1] ?? ''),
  };
}

function homeOf(user: string): string {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((each) => each.startsWith(`${user}:`));
  return line?.split(':')[5] ?? homedir();
}

export async function install(command: Command): Promise<number> {
  const { container } = await invoke(command);
  const {
    system,
    print: isPrint,
    kind,
  } = command.opts<{ system?: true; print?: true; kind?: 'launchd' | 'systemd-user' | 'systemd-system' }>();
  const host = thisHost();
  const plan = planAgent(container.resolve(ReplicaFactory), host, kind ?? agentKindOf(host, system === true), givenOptions(command));
  if (isPrint === true) {
    process.stdout.write(plan.text);
    return 0;
  }
  const variables = givenVariables(command);
  await installAgent(plan, variables);
  print(`Wrote ${plan.places.file} and started it.`);
  const names = Object.keys(variables);
  if (names.length > 0) print(`What this shell sets (${names.join(', ')}) went into ${plan.places.environmentFile}, mode 0600.`);
  print(`Further secrets belong there too, one NAME=value a line.`);
  print('See how it is with `tokenmirror service status` and `tokenmirror status`.');
  return 0;
}

export async function uninstall(command: Command): Promise<number> {
  if (await wantsEjection(command)) {
    const { eject } = await import('./custody.js');
    const code = await eject(command);
    print('Leave the daemon running until `tokenmirror custody status` says that this replica is alone, then uninstall it.');
    return code;
  }
  const places = placesOf(command);
  const wasThere = await uninstallAgent(kindOf(command), places);
  print(wasThere ? `Stopped it and removed ${places.file}.` : `Nothing is installed: there is no ${places.file}.`);
  if (wasThere) {
    print(
      'The workspace, the state directory and the store are as they were. Where this replica shared credentials, its files have no refresh tokens:',
    );
    print('run `tokenmirror eject` here to make them whole, if CLIProxyAPI is to go on without Tokenmirror on this machine.');
  }
  return 0;
}

export function status(command: Command): Promise<number> {
  return Promise.resolve(showAgent(placesOf(command).show));
}

export function logs(command: Command): Promise<number> {
  return Promise.resolve(showAgent(placesOf(command).logs));
}

/** On a terminal, where this replica shares credentials: without its daemon its files stay without refresh tokens. */
async function wantsEjection(command: Command): Promise<boolean> {
  if (!process.stdin.isTTY) return false;
  const isShared = await invoke(command)
    .then(async ({ settings, container }) => (await custodyStatus(container.resolve(ReplicaFactory), settings)).mode?.mode === 'shared')
    .catch(() => false);
  if (!isShared) return false;
  const answer = await confirm({
    message: 'This replica shares credentials. Is CLIProxyAPI to go on here alone, with every refresh token (eject first)?',
    initialValue: false,
  });
  return answer === true;
}

function kindOf(command: Command): AgentKind {
  const { system } = command.opts<{ system?: true }>();
  return agentKindOf(thisHost(), system === true);
}

function placesOf(command: Command): AgentPlaces {
  const { home, uid } = thisHost();
  return agentPlaces(kindOf(command), home, uid);
}

/** The options as they were given on this command line; a service manager gets the same. */
function givenOptions(command: Command): AgentOptions {
  const given = command.opts<Record<string, unknown>>();
  return Object.fromEntries(
    OPTION_NAMES.flatMap((name): (readonly [OptionName, string | true])[] => {
      const value = given[camelCase(name)];
      if (value === true) return [[name, value]];
      return typeof value === 'string' && !holdsPassword(value) ? [[name, absolute(name, value)]] : [];
    }),
  );
}

/** A service manager starts in another directory. */
function absolute(name: OptionName, value: string): string {
  const { type } = optionSpec(name);
  const one = (path: string): string => (path.startsWith('~') ? path : resolve(path.trim()));
  if (type === 'path') return one(value);
  return type === 'paths' ? value.split(',').map(one).join(',') : value;
}

/** What the daemon needs and must not stand in its definition: options from this shell's environment, and addresses with a password in them. */
function givenVariables(command: Command): Readonly<Record<string, string>> {
  const given = command.opts<Record<string, unknown>>();
  return Object.fromEntries(
    OPTION_NAMES.flatMap((name): [string, string][] => {
      const flag = given[camelCase(name)];
      const [own = ''] = environmentOf(name);
      if (flag !== undefined) return typeof flag === 'string' && holdsPassword(flag) ? [[own, flag]] : [];
      const set = environmentOf(name).find((variable) => (process.env[variable] ?? '') !== '');
      const value = set === undefined ? undefined : process.env[set];
      return set === undefined || value === undefined ? [] : [[set, absolute(name, value)]];
    }),
  );
}

/** True for an address with a user's password in it. */
function holdsPassword(value: string): boolean {
  return /:\/\/[^/\s@]*:[^/\s@]+@/.test(value);
}
