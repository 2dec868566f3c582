import { createWriteStream, renameSync } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { SingleBar } from 'cli-progress';
import type { Command } from 'commander';
import { EXIT_ATTENTION, TokenmirrorError } from '@tokenmirror/core';
import {
  backupProblem,
  isLossRecent,
  ReplicaFactory,
  timelineView,
  UsageCommand,
  usageView,
  type Group,
  type UsageFormat,
  type UsageLine,
} from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';
import { bar } from '../output/chart.js';
import { distance, localTime, table } from '../output/table.js';

interface Asked {
  readonly since?: string;
  readonly by?: string;
  readonly limit?: string;
  readonly key?: string;
}

const DEFAULT_SINCE = '24h';
const BAR_CELLS = 30;

export async function top(command: Command): Promise<number> {
  const { since = DEFAULT_SINCE, by = 'key', limit = '20' } = command.opts<Asked>();
  return using(command, async (usage, json) => {
    const lines = await usage.questions.top(by as Group, usage.since(since), countOf(limit));
    if (json) printJson(lines.map(usageView));
    else if (lines.length === 0) tell(`Nothing was used since ${localTime(usage.since(since))}.`);
    else print(lineTable(lines, by, usage.questions.currency));
    return 0;
  });
}

export async function key(reference: string, command: Command): Promise<number> {
  const { since = DEFAULT_SINCE } = command.opts<Asked>();
  return using(command, async (usage, json) => {
    const line = await usage.questions.key(reference, usage.since(since));
    if (json) printJson(usageView(line));
    else print(lineTable([line], 'key', usage.questions.currency));
    return 0;
  });
}

export async function account(email: string, command: Command): Promise<number> {
  const { since = DEFAULT_SINCE } = command.opts<Asked>();
  return using(command, async (usage, json) => {
    const line = await usage.questions.account(email, usage.since(since));
    if (json) printJson(usageView(line));
    else print(lineTable([line], 'owner', usage.questions.currency));
    return 0;
  });
}

export async function timeline(command: Command): Promise<number> {
  const { since = DEFAULT_SINCE, by = 'hour', key: reference } = command.opts<Asked>();
  return using(command, async (usage, json) => {
    const points = await usage.questions.timeline(usage.since(since), by as 'hour' | 'day', reference);
    const largest = Math.max(0, ...points.map(({ total }) => total));
    if (json) printJson(points.map(timelineView));
    else if (points.length === 0) tell(`Nothing was used since ${localTime(usage.since(since))}.`);
    else
      print(
        table(
          [by === 'day' ? 'DAY (UTC)' : 'HOUR (UTC)', 'REQUESTS', 'TOKENS', ''],
          points.map(({ start, requests, total }) => [
            new Date(start)
              .toISOString()
              .slice(0, by === 'day' ? 10 : 16)
              .replace('T', ' '),
            String(requests),
            String(total),
            bar(total, largest, BAR_CELLS),
          ]),
        ),
      );
    return 0;
  });
}

export async function exportUsage(command: Command): Promise<number> {
  const { since = 'never', format = 'jsonl', file } = command.opts<Asked & { format?: UsageFormat; file?: string }>();
  return using(command, async (usage) => {
    const parts = Readable.from(usage.export(format, usage.since(since)));
    if (file === undefined) for await (const part of parts) process.stdout.write(part as string);
    else {
      const unfinished = `${file}.${String(process.pid)}.tmp`;
      await pipeline(parts, createWriteStream(unfinished, { mode: 0o600, flags: 'wx' }));
      renameSync(unfinished, file);
      tell(`Written to ${file}, readable for you alone.`);
    }
    return 0;
  });
}

export async function importUsage(file: string, command: Command): Promise<number> {
  const { origin = 'imported' } = command.opts<{ origin?: string }>();
  return using(command, async (usage, json) => {
    const progress = new SingleBar({
      format: 'importing {bar} {value} of {total}',
      clearOnComplete: true,
      noTTYOutput: false,
      stream: process.stderr,
    });
    const shown = { yet: false };
    const { read, added } = await usage.import(file, origin, (done, all) => {
      if (!shown.yet && !json && process.stderr.isTTY) {
        progress.start(all, 0);
        shown.yet = true;
      }
      if (shown.yet) progress.update(done);
    });
    if (shown.yet) progress.stop();
    if (json) printJson({ read, added });
    else tell(`${String(added)} of ${String(read)} requests were new.`);
    return 0;
  });
}

export async function backup(command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  return UsageCommand.use(container.resolve(ReplicaFactory), settings, async (usage) => {
    const outcomes = await usage.backUp(settings);
    if (outcomes.length === 0)
      throw new TokenmirrorError('OPTION_INVALID', 'usage-backup names no store', 'Name one, such as s3 or file:///backup.');
    if (settings.json) printJson(outcomes);
    else
      for (const outcome of outcomes)
        print(
          [
            `${outcome.store}: ${outcome.status === 'written' ? `${String(outcome.requests)} requests, by day` : 'not written'}`,
            backupProblem(outcome),
          ]
            .filter(Boolean)
            .join('; '),
        );
    return outcomes.every((outcome) => backupProblem(outcome) === undefined) ? 0 : EXIT_ATTENTION;
  });
}

export async function restore(command: Command): Promise<number> {
  const { from = '' } = command.opts<{ from?: string }>();
  return using(command, async (usage, json) => {
    const requests = await usage.restore(from);
    if (json) printJson({ requests });
    else tell(`${String(requests)} requests came back, as sums by day.`);
    return 0;
  });
}

export async function status(command: Command): Promise<number> {
  return using(command, async (usage, json) => {
    const report = await usage.status();
    const isWell =
      report.daemon?.problem === undefined &&
      (report.daemon?.backups ?? []).every((each) => each.problem === undefined) &&
      (report.daemon?.collectors ?? []).every(
        (each) => each.problem === undefined && !isLossRecent(each.lostAt, Date.now()) && each.isRecorded !== false,
      );
    if (json) printJson(report);
    else {
      print(`ledger     ${String(report.requests)} requests, ${String(report.tokens)} tokens`);
      if (report.daemon === undefined) print('collecting no daemon of this workspace does (`usage: yes`, and a management key)');
      for (const { origin, how, isRecorded, problem, collected, restored, lost, lastAt } of report.daemon?.collectors ?? []) {
        const notes = [
          how === undefined ? 'looking how it tells of usage' : `by ${how}`,
          `${String(collected)} since its start`,
          ...(restored > 0 ? [`${String(restored)} given back`] : []),
          ...(lost > 0 ? [`${String(lost)} LOST`] : []),
          ...(lastAt === undefined ? [] : [`the last ${distance(lastAt)}`]),
          ...(isRecorded === false ? ['CLIProxyAPI records nothing (usage-statistics-enabled)'] : []),
        ];
        print(`collecting ${origin}: ${notes.join(', ')}`);
        if (problem !== undefined) print(`           ${problem.reason}. ${problem.remedy}`);
      }
      for (const { store, at, problem } of report.daemon?.backups ?? [])
        print(`backup     ${store}: ${at === undefined ? 'none yet' : distance(at)}${problem === undefined ? '' : `. ${problem}`}`);
      for (const { origin, at, detail } of report.losses) print(`lost       ${localTime(at)} ${origin}: ${detail}`);
    }
    return isWell ? 0 : EXIT_ATTENTION;
  });
}

async function using(command: Command, work: (usage: UsageCommand, json: boolean) => Promise<number>): Promise<number> {
  const { settings, container } = await invoke(command);
  return UsageCommand.use(container.resolve(ReplicaFactory), settings, (usage) => work(usage, settings.json));
}

function lineTable(lines: readonly UsageLine[], by: string, currency: string | undefined): string {
  const largest = Math.max(...lines.map(({ total }) => total));
  const hasCost = currency !== undefined;
  return table(
    [
      by.toUpperCase(),
      ...(by === 'key' ? ['OWNER'] : []),
      'REQUESTS',
      'FAILED',
      'INPUT',
      'CACHED',
      'OUTPUT',
      'TOKENS',
      ...(hasCost ? [`EST. ${currency}`] : []),
      '',
    ],
    lines.map(({ name, owner, requests, failed, input, cached, output, total, cost }) => [
      name,
      ...(by === 'key' ? [owner ?? ''] : []),
      ...[requests, failed, input, cached, output, total].map(String),
      ...(hasCost ? [cost === undefined ? '?' : cost.toFixed(2)] : []),
      bar(total, largest, BAR_CELLS / 2),
    ]),
  );
}

function tell(text: string): void {
  process.stderr.write(`${text}\n`);
}

function countOf(text: string): number {
  const count = Number(text);
  if (Number.isSafeInteger(count) && count >= 1 && count <= 1000) return count;
  throw new TokenmirrorError('USAGE', '--limit is not a whole number between 1 and 1000', 'Correct it.');
}
