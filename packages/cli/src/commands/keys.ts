import { text as readStream } from 'node:stream/consumers';
import type { Command } from 'commander';
import { EXIT_ATTENTION, messageOf, TokenmirrorError } from '@tokenmirror/core';
import {
  describePlan,
  describeQuota,
  KeysCommand,
  parseQuota,
  parseTerm,
  ReplicaFactory,
  stateOf,
  viewOf,
  type ApiKey,
  type Applied,
  type Filter,
} from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';
import { mustAgree } from '../output/ask.js';
import { distance, localTime, table } from '../output/table.js';

interface Wish {
  readonly owner?: string;
  readonly term?: string;
  readonly note?: string;
  readonly label?: readonly string[];
  readonly quota?: string;
}

export async function add(command: Command): Promise<number> {
  const { owner = '', term = 'never', note = '', label = [], quota, keyStdin } = command.opts<Wish & { keyStdin?: true }>();
  const key = keyStdin === true ? (await readStream(process.stdin)).trim() : undefined;
  return using(command, async (keys, json) => {
    const made = await keys.registry.add(keys.actor, {
      ...(key === undefined ? {} : { key }),
      owner,
      term: parseTerm(term),
      note,
      labels: label,
      quota: quota === undefined ? null : parseQuota(quota),
    });
    if (!json) print(made.key);
    const applied = await applying(keys);
    if (json) printJson({ key: made.key, item: viewOf(made.record, Date.now()), targets: applied });
    else {
      tell(`${made.record.id}: registered${ending(made.record)}. ${key === undefined ? 'The key is not shown again.' : ''}`);
      tellApplied(applied);
    }
    return exitCodeOf(applied);
  });
}

export async function list(command: Command): Promise<number> {
  const { filter = 'all', owner, label } = command.opts<{ filter?: Filter; owner?: string; label?: string }>();
  return using(command, async (keys, json) => {
    const query = { filter, ...(owner === undefined ? {} : { owner }), ...(label === undefined ? {} : { label }) };
    const { items, total } = await keys.registry.list(query);
    const now = Date.now();
    if (json) printJson({ items: items.map((item) => viewOf(item, now)), total });
    else if (total === 0)
      tell(filter === 'all' ? 'No key is registered yet: `tokenmirror keys add --owner me@example.com --term 30d`.' : 'None.');
    else
      print(
        table(
          ['ID', 'KEY', 'OWNER', 'STATE', 'EXPIRES', 'USED', 'LAST USE', 'NOTE'],
          items.map((item) => [
            item.id,
            item.mask,
            item.owner,
            stateOf(item, now),
            item.expiresAt === null ? 'never' : distance(item.expiresAt),
            item.quota === null ? '' : `${String(item.used[item.quota.unit])} of ${describeQuota(item.quota)}`,
            item.lastUsedAt === null ? '' : distance(item.lastUsedAt),
            item.note,
          ]),
        ),
      );
    if (!json && items.length < total) tell(`${String(items.length)} of ${String(total)} are shown; narrow it with --owner or --filter.`);
    return 0;
  });
}

export async function show(reference: string, command: Command): Promise<number> {
  return using(command, async (keys, json) => {
    const record = await keys.registry.get(reference);
    const { items: history } = await keys.registry.audit.list({ keyId: record.id, limit: 20 });
    if (json) printJson({ ...viewOf(record, Date.now()), history });
    else {
      const shown = Object.entries(viewOf(record, Date.now())).filter(
        ([, value]) => value !== null && value !== '' && String(value) !== '',
      );
      print(
        table(
          ['', ''],
          shown.map(([name, value]) => [name.replaceAll('_', ' '), String(value)]),
        ).trim(),
      );
      print(`\n${auditTable(history)}`);
    }
    return 0;
  });
}

export const extend = (reference: string, command: Command): Promise<number> =>
  changing(command, (keys) => keys.registry.setTerm(keys.actor, reference, parseTerm(argumentOf(command, 1)), 'extend'));
export const disable = (reference: string, command: Command): Promise<number> =>
  changing(command, (keys) => keys.registry.setStatus(keys.actor, reference, 'disabled'));
export const enable = (reference: string, command: Command): Promise<number> =>
  changing(command, (keys) => keys.registry.setStatus(keys.actor, reference, 'active'));

export async function edit(reference: string, command: Command): Promise<number> {
  const { owner, note, label, quota } = command.opts<Wish>();
  if ([owner, note, label, quota].every((each) => each === undefined))
    throw new TokenmirrorError('USAGE', 'nothing was said to be changed', 'Give --owner, --note, --label or --quota.');
  return changing(command, (keys) =>
    keys.registry.describe(keys.actor, reference, {
      ...(owner === undefined ? {} : { owner }),
      ...(note === undefined ? {} : { note }),
      ...(label === undefined ? {} : { labels: label }),
      ...(quota === undefined ? {} : { quota: quota === 'none' ? null : parseQuota(quota) }),
    }),
  );
}

export async function remove(reference: string, command: Command): Promise<number> {
  const { yes = false } = command.opts<{ yes?: true }>();
  return changing(command, async (keys) => {
    const { mask, owner } = await keys.registry.get(reference);
    await mustAgree(yes, `${mask}${owner === '' ? '' : ` of ${owner}`} will not be let in any more.`, 'Delete it?');
    return keys.registry.delete(keys.actor, reference);
  });
}

export async function rotate(reference: string, command: Command): Promise<number> {
  const { overlap = '24h' } = command.opts<{ overlap?: string }>();
  const term = parseTerm(overlap);
  if (term.kind !== 'after') throw new TokenmirrorError('KEY_INVALID', 'the overlap is no duration', 'Write it as 1h or 2d.');
  return using(command, async (keys, json) => {
    const made = await keys.registry.rotate(keys.actor, reference, term.ms);
    if (!json) print(made.key);
    const applied = await applying(keys);
    if (json) printJson({ key: made.key, item: viewOf(made.record, Date.now()), targets: applied });
    else {
      tell(`${made.record.id} follows; the old key goes on for ${overlap} at most. The new one is not shown again.`);
      tellApplied(applied);
    }
    return exitCodeOf(applied);
  });
}

export async function adopt(command: Command): Promise<number> {
  const { owner = '', term = 'never', note = '', dryRun = false } = command.opts<Wish & { dryRun?: true }>();
  return using(command, async (keys, json) => {
    const found = await keys.adopt({ owner, term: parseTerm(term), note }, command.args, dryRun);
    if (json) printJson(found);
    else
      for (const { target, keys: masks } of found) {
        tell(`${target}: ${String(masks.length)} keys ${dryRun ? 'would be taken over' : 'were taken over'}.`);
        for (const mask of masks) print(mask);
      }
    return 0;
  });
}

export async function importKeys(file: string, command: Command): Promise<number> {
  return using(command, async (keys, json) => {
    const { imported, left } = await keys.import(file);
    const applied = await keys.apply();
    if (json) printJson({ imported: imported.map((item) => viewOf(item, Date.now())), left, targets: applied });
    else {
      tell(`${String(imported.length)} keys were imported, ${String(left.length)} left out.`);
      for (const { mask, reason } of left) tell(`  ${mask}: ${reason}`);
      tellApplied(applied);
    }
    return exitCodeOf(applied);
  });
}

export async function exportKeys(command: Command): Promise<number> {
  const { withKeys = false, file } = command.opts<{ withKeys?: true; file?: string }>();
  return using(command, async (keys) => {
    const text = await keys.export({ file, isClear: withKeys });
    if (file === undefined) print(text);
    else tell(`Written to ${file}, readable for you alone.${withKeys ? ' It holds every key in clear.' : ''}`);
    return 0;
  });
}

export async function audit(command: Command): Promise<number> {
  const { key, limit = '50' } = command.opts<{ key?: string; limit?: string }>();
  return using(command, async (keys, json) => {
    const keyId = key === undefined ? undefined : (await keys.registry.get(key)).id;
    const { items, total } = await keys.registry.audit.list({ ...(keyId === undefined ? {} : { keyId }), limit: countOf(limit) });
    if (json) printJson({ items, total });
    else print(auditTable(items));
    return 0;
  });
}

export async function sync(command: Command): Promise<number> {
  const { dryRun = false } = command.opts<{ dryRun?: true }>();
  return using(command, async (keys, json) => {
    if (!dryRun) {
      const applied = await keys.sync();
      if (json) printJson(applied);
      else tellApplied(applied, true);
      return exitCodeOf(applied);
    }
    const plans = (await keys.plan()).map((outcome) =>
      outcome.status === 'synced'
        ? { target: outcome.target, status: outcome.status, ...describePlan(outcome.plan) }
        : {
            target: outcome.target,
            status: outcome.status,
            reason: outcome.status === 'failed' ? outcome.reason : outcome.status === 'idle' ? outcome.because : 'not known yet',
          },
    );
    if (json) printJson(plans);
    else
      for (const plan of plans) {
        if (!('added' in plan)) print(`${plan.target}: ${plan.reason}`);
        else {
          print(
            `${plan.target}: would add ${list3(plan.added)}, remove ${list3(plan.removed)}, keep ${list3(plan.foreign)} that nobody registered`,
          );
        }
      }
    return plans.some(({ status }) => status === 'failed') ? EXIT_ATTENTION : 0;
  });
}

async function using(command: Command, work: (keys: KeysCommand, json: boolean) => Promise<number>): Promise<number> {
  const { settings, container } = await invoke(command);
  return KeysCommand.use(container.resolve(ReplicaFactory), settings, (keys) => work(keys, settings.json));
}

function changing(command: Command, change: (keys: KeysCommand) => Promise<ApiKey>): Promise<number> {
  return using(command, async (keys, json) => {
    const record = await change(keys);
    const applied = await keys.apply();
    if (json) printJson({ item: viewOf(record, Date.now()), targets: applied });
    else {
      tell(`${record.id}: ${stateOf(record, Date.now())}${ending(record)}.`);
      tellApplied(applied);
    }
    return exitCodeOf(applied);
  });
}

/** What was made must be told, whatever becomes of it at CLIProxyAPI. */
function applying(keys: KeysCommand): Promise<readonly Applied[]> {
  return keys.apply().catch((error: unknown) => [{ target: 'all', status: 'failed', reason: messageOf(error) }]);
}

/** What is said beside a result goes to standard error, so that a key can be piped. */
function tell(text: string): void {
  process.stderr.write(`${text.trimEnd()}\n`);
}

function tellApplied(applied: readonly Applied[], isAsked = false): void {
  if (applied.length === 0)
    tell(
      isAsked
        ? 'No CLIProxyAPI could be reached from here: set CLIPROXY_MGMT_KEY, or start the daemon with it.'
        : 'It reaches CLIProxyAPI when a daemon with a management key runs (CLIPROXY_MGMT_KEY).',
    );
  for (const { target, status, reason } of applied) {
    const [replica = '', place = ''] = target.split(' ');
    const where = place === 'beside' ? `CLIProxyAPI beside ${replica}` : place;
    tell(
      status === 'applied'
        ? `${where}: applied.`
        : `${where}: ${status === 'waiting' ? 'not applied yet' : `not applied: ${reason ?? ''}`}.`,
    );
  }
}

function exitCodeOf(applied: readonly Applied[]): number {
  return applied.every(({ status }) => status === 'applied') ? 0 : EXIT_ATTENTION;
}

function ending({ expiresAt, status }: ApiKey): string {
  if (status !== 'active') return '';
  return expiresAt === null ? ', never expires' : `, expires ${distance(expiresAt)} (${localTime(expiresAt)})`;
}

function auditTable(
  entries: readonly { at: number; actor: string; action: string; mask: string | null; outcome: string; detail: string }[],
): string {
  return table(
    ['WHEN', 'WHO', 'WHAT', 'KEY', 'OUTCOME', 'DETAIL'],
    entries.map(({ at, actor, action, mask, outcome, detail }) => [localTime(at), actor, action, mask ?? '', outcome, detail]),
  );
}

function argumentOf(command: Command, position: number): string {
  return command.args[position] ?? '';
}

function countOf(text: string): number {
  const count = Number(text);
  if (Number.isSafeInteger(count) && count >= 1 && count <= 10_000) return count;
  throw new TokenmirrorError('USAGE', '--limit is not a whole number between 1 and 10000', 'Correct it.');
}

function list3(masks: readonly string[]): string {
  return masks.length === 0
    ? 'none'
    : masks.length <= 3
      ? masks.join(' ')
      : `${masks.slice(0, 3).join(' ')} and ${String(masks.length - 3)} more`;
}
