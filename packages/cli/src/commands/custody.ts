import type { Command } from 'commander';
import { EXIT_ATTENTION, type ClusterMode } from '@tokenmirror/core';
import {
  custodyStatus,
  dismissReplica,
  eject as endSharing,
  listReplicas,
  refreshNow,
  ReplicaFactory,
  share as shareCredentials,
  takeOver,
  type CredentialCustody,
} from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';
import { mustAgree } from '../output/ask.js';
import { distance, table } from '../output/table.js';

const PATIENCE_MS = 60_000;
const RISK =
  'If the replica that holds a token is alive and uses it later, the provider takes that for theft and ends the login everywhere.';

export async function status(command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const report = await custodyStatus(container.resolve(ReplicaFactory), settings);
  const isWell = report.credentials.every(({ problem }) => problem === undefined) && !isHandingOver(report.mode);
  if (settings.json) printJson(report);
  else {
    print(`custody    ${describe(report.mode, report.here)}`);
    if (report.credentials.length > 0)
      print(
        `\n${table(
          ['CREDENTIAL', 'PROVIDER', 'EXPIRES', 'REFRESH', 'HELD BY', 'NOTE'],
          report.credentials.map((credential) => [
            credential.name,
            credential.provider,
            credential.expires === undefined ? '' : distance(credential.expires),
            credential.due === undefined ? '' : distance(credential.due),
            holderOf(credential),
            credential.problem ?? '',
          ]),
        )}`,
      );
  }
  return isWell ? 0 : EXIT_ATTENTION;
}

export async function refresh(name: string, command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const result = await refreshNow(container.resolve(ReplicaFactory), settings, name, PATIENCE_MS);
  if (settings.json) printJson(result);
  else if (result.result === 'refreshed') print(`${result.name}: refreshed; every replica gets the new access token.`);
  else print(`${result.name}: asked for, and not refreshed yet. See \`tokenmirror custody status\` for who may, and why not.`);
  return result.result === 'refreshed' ? 0 : EXIT_ATTENTION;
}

export async function share(command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const mode = await shareCredentials(container.resolve(ReplicaFactory), settings);
  if (settings.json) printJson(mode);
  else print(describe(mode, undefined));
  return 0;
}

export async function takeover(name: string, command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const { yes = false } = command.opts<{ yes?: true }>();
  await mustAgree(yes, RISK, 'Take the token from its holder?');
  const result = await takeOver(container.resolve(ReplicaFactory), settings, name);
  if (settings.json) printJson(result);
  else
    print(
      result.from === undefined
        ? `${result.name}: nobody holds it.`
        : `${result.name}: taken from ${result.from}; the next replica that needs it refreshes it.`,
    );
  return 0;
}

export async function list(command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const replicas = await listReplicas(container.resolve(ReplicaFactory), settings);
  if (settings.json) printJson(replicas);
  else
    print(
      table(
        ['REPLICA', 'HOST', 'CUSTODY', 'REFRESHES', 'SEEN', 'CLAIMS', 'NOTE'],
        replicas.map(({ id, host, custody, isRefresher, seen, stopped, claims, isHere, isHandingOver: hands }) => [
          id,
          host,
          custody,
          isRefresher ? 'yes' : 'no',
          seen === undefined ? '?' : distance(seen),
          String(claims),
          [isHere ? 'this one' : '', stopped === undefined ? '' : 'stopped', hands ? 'holds every token until it hands over' : '']
            .filter((note) => note !== '')
            .join(', '),
        ]),
      ),
    );
  return 0;
}

export async function dismiss(id: string, command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const { yes = false } = command.opts<{ yes?: true }>();
  await mustAgree(yes, RISK, `Is ${id} gone for good?`);
  const { freed } = await dismissReplica(container.resolve(ReplicaFactory), settings, id);
  if (settings.json) printJson({ id, freed });
  else print(`${id} is dismissed; ${String(freed)} ${freed === 1 ? 'token' : 'tokens'} it held can be refreshed by others.`);
  return 0;
}

export async function eject(command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const { to, dryRun = false, yes = false } = command.opts<{ to?: string; dryRun?: true; yes?: true }>();
  if (!dryRun)
    await mustAgree(
      yes,
      'One replica gets every refresh token; the others go on with what they have and are not refreshed any more.',
      'End sharing?',
    );
  const result = await endSharing(container.resolve(ReplicaFactory), settings, { to, dryRun });
  if (settings.json) printJson(result);
  else {
    print(
      `${result.isDone ? 'Sharing has ended.' : 'Sharing would end.'} ${result.to} ${result.isDone ? 'holds' : 'would hold'} every refresh token. Its daemon makes the files whole; without one, run \`tokenmirror sync\` there.`,
    );
    if (result.waitsFor.length > 0)
      print(
        `Held elsewhere now, and whole only when let go by: ${result.waitsFor.join(', ')}. If one of them is gone for good: tokenmirror replicas dismiss <replica>.`,
      );
  }
  return 0;
}

function describe(mode: ClusterMode | undefined, here: string | undefined): string {
  if (mode === undefined) return 'not in use: no replica has started with custody in this store';
  if (mode.mode === 'alone' && mode.handover !== undefined)
    return `not shared any more: ${mode.replica} holds every refresh token as soon as ${mode.handover} has handed over, or is dismissed`;
  if (mode.mode === 'alone')
    return mode.replica === here
      ? 'alone: this replica holds every refresh token'
      : `alone: the replica ${mode.replica} holds every refresh token`;
  return mode.handover === undefined
    ? 'shared: refresh tokens rest in the store, and visit one replica for each refresh'
    : `shared, but ${mode.handover} was alone before and has not handed over: nothing is refreshed until it does, or is dismissed`;
}

function isHandingOver(mode: ClusterMode | undefined): boolean {
  return mode?.handover !== undefined;
}

function holderOf({ claim }: CredentialCustody): string {
  if (claim === undefined || claim.state === 'free' || claim.state === 'spent') return '';
  return `${claim.replica} since ${distance(claim.since)} (${claim.state})`;
}
