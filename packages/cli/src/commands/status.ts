import type { Command } from 'commander';
import { EXIT_ATTENTION, type CustodyReport } from '@tokenmirror/core';
import { ReplicaFactory, status as look, type KeysReport, type NeighbourReport, type StatusReport } from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';
import { describeMirror, isMirrorWell } from '../output/places.js';
import { colorsFor } from '../output/style.js';
import { distance, localTime, table } from '../output/table.js';

export async function status(command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const report = await look(container.resolve(ReplicaFactory));
  if (settings.json) printJson(report);
  else print(render(report));
  const engine = report.daemon.report?.engine;
  const isWell =
    report.store.reachable &&
    report.mirrors.every(({ reachable, copying }) => reachable && (copying === undefined || isMirrorWell(copying))) &&
    report.peers.every(({ reachable, engine: peer, problem }) => reachable && peer?.state !== 'degraded' && problem === undefined) &&
    report.credentials.every(({ problem }) => problem === undefined) &&
    !(
      report.daemon.running &&
      (engine?.state === 'degraded' ||
        (report.daemon.report?.custody?.overdue.length ?? 0) > 0 ||
        isInTrouble(report.daemon.report?.neighbour))
    );
  return isWell ? 0 : EXIT_ATTENTION;
}

function describeKeys({ problem, targets, ending }: KeysReport, colors: ReturnType<typeof colorsFor>): string[] {
  const used = targets.filter(({ syncedAt, problem: of }) => syncedAt !== undefined || of !== undefined);
  return [
    ...(problem === undefined ? [] : [colors.red(`keys       the registry cannot be used: ${problem}`)]),
    ...used.map(({ target, problem: of, foreign }) =>
      of === undefined
        ? `keys       ${target.replace(/^\S+ /, '')}: in sync${foreign.length === 0 ? '' : `, ${String(foreign.length)} that nobody registered`}`
        : colors.red(`keys       ${target.replace(/^\S+ /, '')}: ${of.reason}. ${of.remedy}`),
    ),
    ...ending.map(({ id, owner, expiresAt }) => `           ${id}${owner === '' ? '' : ` of ${owner}`} expires ${distance(expiresAt)}`),
  ];
}

function isInTrouble(neighbour: NeighbourReport | undefined): boolean {
  return neighbour !== undefined && (neighbour.isOpen || neighbour.hasLostConfig);
}

function describe({ url, answers, flavour, isOpen, hasLostConfig }: NeighbourReport, colors: ReturnType<typeof colorsFor>): string[] {
  const version = flavour === undefined ? '' : ` (${flavour})`;
  return [
    `cliproxy   ${answers ? `answers at ${url}${version}` : `does not answer at ${url}`}`,
    ...(isOpen ? [colors.red('           it serves everyone, with any key or none: put api-keys into config.yaml')] : []),
    ...(hasLostConfig ? [colors.red('           it does not go by config.yaml any more (its watch was lost): restart it')] : []),
  ];
}

function describeCustody({ mode, visits, overdue, counts }: CustodyReport, colors: ReturnType<typeof colorsFor>): string[] {
  if (mode === undefined) return [];
  const state =
    mode.mode === 'alone'
      ? 'alone, with every refresh token'
      : mode.handover === undefined
        ? 'shared'
        : `shared, waits for ${mode.handover} to hand over`;
  const done = Object.entries(counts.visits).filter(([, count]) => count > 0);
  return [
    `custody    ${state}${done.length === 0 ? '' : `; visits since its start: ${done.map(([name, count]) => `${name} ${String(count)}`).join(', ')}`}`,
    ...visits.filter(({ phase }) => phase !== 'quiet').map(({ key, phase }) => `           visit: ${key}: ${phase}`),
    ...overdue.map(({ key, because }) => colors.red(`           overdue: ${key}${because === undefined ? '' : `: ${because}`}`)),
  ];
}

function render({ workspace, store, mirrors, peers, daemon, credentials }: StatusReport): string {
  const colors = colorsFor(process.stdout);
  const lines = [
    `workspace  ${workspace.authDir} (${String(workspace.credentials)} credentials${workspace.hasConfig ? ', config' : workspace.configFile === undefined ? ', config not mirrored' : ', no config'})`,
    `store      ${store.description}${store.reachable ? ` (${String(store.documents)} documents, ${String(store.deleted)} deleted)` : ''}`,
  ];
  if (!store.reachable) lines.push(colors.red(`           out of reach: ${store.problem ?? ''}`), `           ${store.remedy ?? ''}`);
  for (const { name, description, reachable, documents, problem, remedy, copying } of mirrors) {
    const isKnownBy = name === description ? '' : `${name}, `;
    lines.push(`mirror     ${isKnownBy}${description}${reachable ? ` (${String(documents)} documents)` : ''}`);
    if (!reachable) lines.push(colors.red(`           out of reach: ${problem ?? ''}`), `           ${remedy ?? ''}`);
    if (copying !== undefined) lines.push(`           ${describeMirror(copying)}`);
  }
  for (const { directory, reachable, credentials: count, engine, problem } of peers) {
    const state = engine === undefined ? '' : `, ${engine.state}`;
    lines.push(`peer       ${directory}${reachable ? ` (${String(count)} credentials${state})` : colors.red(' is not there')}`);
    if (problem !== undefined) lines.push(colors.red(`           ${problem.reason}`), `           ${problem.remedy}`);
    for (const { name, reason } of engine?.refusals ?? []) lines.push(`           refused: ${name}: ${reason}`);
  }
  const { report } = daemon;
  if (!daemon.running) lines.push(`daemon     not running${report === undefined ? '' : `; last seen ${distance(report.writtenAt)}`}`);
  else if (report !== undefined) {
    const { engine } = report;
    lines.push(
      `daemon     running (process ${String(report.pid)}), ${engine.state === 'degraded' ? colors.yellow(engine.state) : colors.green(engine.state)}${engine.lastSync === undefined ? '' : `, first sync ${localTime(engine.lastSync)}`}`,
    );
    if (engine.outage !== undefined)
      lines.push(`           the store is out of reach for it since ${localTime(engine.outage.since)}: ${engine.outage.reason}`);
    if (engine.workspaceMissing) lines.push('           the auth directory is missing; nothing is deleted because of that');
    if (engine.frozenDeletions.length > 0)
      lines.push(
        `           ${String(engine.frozenDeletions.length)} deletions are frozen; put the files back, or stop it and run \`tokenmirror sync --force\``,
      );
    for (const key of engine.loginDue) lines.push(`           login due: ${key}`);
    for (const { name, side, reason } of engine.refusals) lines.push(`           refused (${side}): ${name}: ${reason}`);
    const counts = Object.entries(engine.counts).filter(([, count]) => count > 0);
    if (counts.length > 0)
      lines.push(`           since its start: ${counts.map(([name, count]) => `${name} ${String(count)}`).join(', ')}`);
    if (report.custody !== undefined) lines.push(...describeCustody(report.custody, colors));
    if (report.neighbour !== undefined) lines.push(...describe(report.neighbour, colors));
    if (report.keys !== undefined) lines.push(...describeKeys(report.keys, colors));
  }
  if (credentials.length > 0) {
    lines.push(
      '',
      table(
        ['CREDENTIAL', 'PROVIDER', 'EXPIRES', 'STORED', 'NOTE'],
        credentials.map(({ name, provider, disabled, expires, stored, problem }) => [
          name,
          provider,
          expires === undefined ? '' : distance(expires),
          stored === undefined ? '?' : stored ? 'yes' : 'no',
          problem ?? (disabled ? 'disabled' : ''),
        ]),
      ),
    );
  }
  return lines.join('\n');
}
