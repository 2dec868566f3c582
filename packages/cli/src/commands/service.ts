import { realpathSync } from 'node:fs';
import { homedir, userInfo } from 'node:os';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import {
  agentKindOf,
  agentPlaces,
  installAgent,
  OPTION_NAMES,
  optionSpec,
  planAgent,
  ReplicaFactory,
  showAgent,
  uninstallAgent,
  type AgentHost,
  type AgentOptions,
  type AgentPlaces,
  type OptionName,
} from '@tokenmirror/service';
import { camelCase, invoke, print } from '../context.js';

function thisHost(): AgentHost {
  const { uid, username } = userInfo();
  return {
    platform: process.platform,
    home: homedir(),
    uid,
    user: username,
    node: process.execPath,
    directory: process.cwd(),
    command: realpathSync(process.argv[1] ?? ''),
  };
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
  await installAgent(plan);
  print(`Wrote ${plan.places.file} and started it.`);
  print(`Secrets (PGSTORE_DSN and the like) belong into ${plan.places.environmentFile}, mode 0600, one NAME=value a line.`);
  print('See how it is with `tokenmirror service status` and `tokenmirror status`.');
  return 0;
}

export async function uninstall(command: Command): Promise<number> {
  const places = placesOf(command);
  const wasThere = await uninstallAgent(places);
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

function placesOf(command: Command): AgentPlaces {
  const host = thisHost();
  const { system } = command.opts<{ system?: true }>();
  return agentPlaces(agentKindOf(host, system === true), host.home, host.uid);
}

/** The options as they were given on this command line; a service manager gets the same. */
function givenOptions(command: Command): AgentOptions {
  const given = command.opts<Record<string, unknown>>();
  return Object.fromEntries(
    OPTION_NAMES.flatMap((name): (readonly [OptionName, string | true])[] => {
      const value = given[camelCase(name)];
      if (value === true) return [[name, value]];
      return typeof value === 'string' ? [[name, absolute(name, value)]] : [];
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
