import type { DocumentKey } from '@tokenmirror/core';
import type { KeysReport } from '@tokenmirror/key-expiry';
import { isLossRecent } from '@tokenmirror/usage';
import type { UsageReport } from '../companions/usage-companion.js';
import type { DaemonReport } from '../daemon/status-file.js';
import type { Starting } from './health.js';
import { maskedName } from './masked-name.js';

/** `critical`: credentials are or will be out of service, or open to strangers. `warning`: something is not kept as it should be. */
export type Severity = 'critical' | 'warning';

/** Something that is wrong now, for as long as it is. */
export interface Alarm {
  /** The same for as long as it goes on. */
  readonly id: string;
  readonly kind: AlarmKind;
  readonly severity: Severity;
  readonly message: string;
  readonly remedy: string;
}

export type AlarmKind =
  | 'authority-unreachable'
  | 'workspace-missing'
  | 'credential-overdue'
  | 'login-due'
  | 'token-died-again'
  | 'no-refresher'
  | 'handover-waits'
  | 'holder-silent'
  | 'claim-abandoned'
  | 'deletions-frozen'
  | 'documents-refused'
  | 'mirror-behind'
  | 'peer-trouble'
  | 'cliproxy-silent'
  | 'cliproxy-open'
  | 'cliproxy-config-lost'
  | 'management-refused'
  | 'keys-not-synced'
  | 'keys-unreadable'
  | 'keys-unavailable'
  | 'key-expires'
  | 'quota-near'
  | 'quota-used-up'
  | 'usage-not-collected'
  | 'usage-lost'
  | 'usage-backup-failed'
  | 'recharge-requested'
  | 'telegram-refused';

const SEVERITIES: Readonly<Record<AlarmKind, Severity>> = {
  'authority-unreachable': 'critical',
  'workspace-missing': 'critical',
  'credential-overdue': 'critical',
  'login-due': 'critical',
  'token-died-again': 'critical',
  'no-refresher': 'critical',
  'handover-waits': 'critical',
  'holder-silent': 'critical',
  'claim-abandoned': 'warning',
  'deletions-frozen': 'warning',
  'documents-refused': 'warning',
  'mirror-behind': 'warning',
  'peer-trouble': 'warning',
  'cliproxy-silent': 'warning',
  'cliproxy-open': 'critical',
  'cliproxy-config-lost': 'critical',
  'management-refused': 'warning',
  'keys-not-synced': 'critical',
  'keys-unreadable': 'warning',
  'keys-unavailable': 'warning',
  'key-expires': 'warning',
  'quota-near': 'warning',
  'quota-used-up': 'warning',
  'usage-not-collected': 'warning',
  'usage-lost': 'warning',
  'usage-backup-failed': 'warning',
  'recharge-requested': 'warning',
  'telegram-refused': 'warning',
};

export const ALARM_KINDS = Object.keys(SEVERITIES) as readonly AlarmKind[];

/** How long something may last before it is an alarm, in ms. */
export interface Patience {
  readonly outageMs: number;
  readonly mirrorMs: number;
}

/** What is wrong with a daemon that still waits for the authority. */
export function alarmsOfStart({ waitsFor, remedy, since }: Starting, now: number, { outageMs }: Patience): Alarm[] {
  if (now - since < outageMs) return [];
  const kind = 'authority-unreachable';
  return [{ id: kind, kind, severity: SEVERITIES[kind], message: `the authority cannot be reached (${waitsFor})`, remedy }];
}

/** What is wrong with a daemon, by its own report. Pure. */
export function alarmsOf(report: DaemonReport, now: number, { outageMs, mirrorMs }: Patience): Alarm[] {
  const alarms: Alarm[] = [];
  const raise = (kind: AlarmKind, message: string, remedy: string, of = ''): void => {
    alarms.push({ id: of === '' ? kind : `${kind} ${of}`, kind, severity: SEVERITIES[kind], message, remedy });
  };
  const { engine, custody, mirrors, peers, neighbour, management } = report;
  if (engine.outage !== undefined && now - engine.outage.since >= outageMs)
    raise('authority-unreachable', `the authority cannot be reached (${engine.outage.reason})`, engine.outage.remedy);
  if (engine.workspaceMissing)
    raise('workspace-missing', 'the auth directory is gone or cannot be read', 'Put it back; its files return from the store.');
  for (const key of engine.loginDue)
    raise('login-due', `the store went back to an older grant of ${named(key)} and nobody has the newest`, 'Log in again.', key);
  if (engine.frozenDeletions.length > 0)
    raise(
      'deletions-frozen',
      `${String(engine.frozenDeletions.length)} deletions at once look like an accident and wait`,
      'Put the files back, or stop the daemon and run `tokenmirror sync --force`.',
    );
  if (engine.refusals.length > 0)
    raise(
      'documents-refused',
      `${String(engine.refusals.length)} documents cannot be replicated as they are, the first: ${engine.refusals[0]?.name ?? ''}`,
      'See `tokenmirror status`.',
    );
  if (custody !== undefined) raiseOfCustody(report, custody, raise);
  for (const { name, problem, behindSince } of mirrors) {
    if (problem !== undefined && now - problem.since >= mirrorMs)
      raise('mirror-behind', `the mirror ${name} is in trouble (${problem.reason})`, problem.remedy, name);
    else if (behindSince !== undefined && now - behindSince >= mirrorMs)
      raise(
        'mirror-behind',
        `the mirror ${name} is behind since ${new Date(behindSince).toISOString()}`,
        'See `tokenmirror status`.',
        name,
      );
  }
  for (const { directory, problem } of peers)
    if (problem !== undefined) raise('peer-trouble', `the peer directory ${directory}: ${problem.reason}`, problem.remedy, directory);
  if (neighbour?.isOpen === true)
    raise('cliproxy-open', 'CLIProxyAPI serves everyone, with any key or none', 'Put api-keys into config.yaml.');
  if (neighbour?.hasLostConfig === true)
    raise(
      'cliproxy-config-lost',
      'CLIProxyAPI does not go by the api-keys in config.yaml any more',
      'Restart CLIProxyAPI: a rename over the file ended its watch.',
    );
  if (neighbour?.answers === false)
    raise('cliproxy-silent', 'CLIProxyAPI does not answer beside this replica', 'Check that it runs, and cliproxy-url.');
  if (management?.problem !== undefined) raise('management-refused', management.problem.reason, management.problem.remedy);
  if (report.keys !== undefined) raiseOfKeys(report.keys, raise);
  if (report.usage !== undefined) raiseOfUsage(report.usage, now, raise);
  if (report.telegram?.state === 'refused')
    raise('telegram-refused', 'Telegram refused the token of the bot', 'Correct telegram-token, and restart the daemon.');
  return alarms;
}

type Raise = (kind: AlarmKind, message: string, remedy: string, of?: string) => void;

function raiseOfCustody({ replica, neighbour }: DaemonReport, custody: NonNullable<DaemonReport['custody']>, raise: Raise): void {
  for (const { key, because } of custody.overdue)
    raise(
      'credential-overdue',
      `${named(key)} should have been refreshed${because === undefined ? '' : `: ${because}`}`,
      'See `tokenmirror custody status`.',
      key,
    );
  if (custody.overdue.length > 0 && (!custody.isRefresher || neighbour?.answers === false))
    raise(
      'no-refresher',
      'credentials are overdue, and this replica cannot refresh',
      'Start CLIProxyAPI beside a replica that may refresh.',
    );
  const { mode } = custody;
  if (mode?.handover !== undefined && mode.handover !== replica)
    raise(
      'handover-waits',
      `the replica ${mode.handover} was alone and has not handed over its refresh tokens`,
      `Start its daemon, or run \`tokenmirror replicas dismiss ${mode.handover}\` if it is gone for good.`,
      mode.handover,
    );
  for (const { key, replica: holder } of custody.silentHolders)
    raise(
      'holder-silent',
      `${named(key)} is due, and the replica ${holder}, which holds its claim, is out of reach`,
      `Start its daemon, or run \`tokenmirror replicas dismiss ${holder}\` if it is gone for good.`,
      key,
    );
  for (const { key, replica: holder } of custody.abandoned)
    raise(
      'claim-abandoned',
      `the replica ${holder} did not come back, and its claim on ${named(key)} was taken over`,
      `See whether that replica is well.`,
      key,
    );
  for (const key of custody.diedAgain)
    raise('token-died-again', `the access token of ${named(key)} died again soon after a refresh`, 'Log in again if this goes on.', key);
}

function raiseOfKeys({ problem, targets, ending, nearLimit, unreadable, requests }: KeysReport, raise: Raise): void {
  if (problem !== undefined) raise('keys-unavailable', `the registry of API keys cannot be used: ${problem}`, 'See the log.');
  for (const { target, problem: of } of targets)
    if (of !== undefined) raise('keys-not-synced', `the API keys of ${target} are not kept right: ${of.reason}`, of.remedy, target);
  if (unreadable.length > 0)
    raise(
      'keys-unreadable',
      `${String(unreadable.length)} API keys cannot be decrypted, the first: ${unreadable[0] ?? ''}`,
      'Give the encryption key or the secret file with which they were registered; or register them anew.',
    );
  for (const { id, mask, owner, expiresAt } of ending)
    raise(
      'key-expires',
      `the API key ${id} (${mask}${owner === '' ? '' : ` of ${owner}`}) expires at ${new Date(expiresAt).toISOString()}`,
      `Extend it with \`tokenmirror keys extend ${id} 30d\`, or let it end.`,
      id,
    );
  for (const { id, mask, owner, used, quota, isUsedUp } of nearLimit)
    raise(
      isUsedUp ? 'quota-used-up' : 'quota-near',
      `the API key ${id} (${mask}${owner === '' ? '' : ` of ${owner}`}) used ${String(used)} of ${quota}`,
      `Raise it with \`tokenmirror keys edit ${id} --quota …\`, or wait for its next window.`,
      id,
    );
  for (const { email, note, at } of requests)
    raise(
      'recharge-requested',
      `${email} asks for more${note === '' ? '' : `: ${note}`}`,
      'Extend a key or raise a quota.',
      `${email} ${String(at)}`,
    );
}

function raiseOfUsage({ problem, collectors, backups }: UsageReport, now: number, raise: Raise): void {
  if (problem !== undefined) raise('usage-not-collected', `the ledger of usage cannot be used: ${problem}`, 'See the log.', 'ledger');
  for (const { store, problem: of } of backups)
    if (of !== undefined)
      raise('usage-backup-failed', `usage is not backed up into ${store}: ${of}`, 'See `tokenmirror usage status`.', store);
  for (const { origin, problem: of, isRecorded, lost, lostAt } of collectors) {
    if (of !== undefined) raise('usage-not-collected', `usage of ${origin} is not collected: ${of.reason}`, of.remedy, origin);
    else if (isRecorded === false)
      raise(
        'usage-not-collected',
        `CLIProxyAPI at ${origin} records no usage`,
        'Set usage-statistics-enabled in its config, or usage-enable here.',
        origin,
      );
    if (isLossRecent(lostAt, now))
      raise(
        'usage-lost',
        `${String(lost)} requests of ${origin} were never told`,
        'Let nobody else read its usage queue or subscribe to it, and keep the daemon running.',
        origin,
      );
  }
}

function named(key: DocumentKey): string {
  return maskedName(key);
}
