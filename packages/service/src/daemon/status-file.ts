import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { checkFormat, CURRENT_FORMAT, type CustodyReport, type EngineStatus, type MirrorStatus } from '@tokenmirror/core';
import { replaceFile } from '@tokenmirror/files';
import type { KeysReport } from '@tokenmirror/key-expiry';
import type { TelegramReport } from '@tokenmirror/telegram';
import type { UsageReport } from '../companions/usage-companion.js';
import type { ManagementReport } from '../neighbour/credential-watch.js';
import type { NeighbourReport } from '../neighbour/neighbour.js';

export interface PeerReport {
  readonly directory: string;
  readonly engine: EngineStatus;
  readonly problem: { readonly reason: string; readonly remedy: string } | undefined;
}

/** What a daemon says of itself, for `tokenmirror status`. */
export interface DaemonReport {
  readonly pid: number;
  readonly version: string;
  readonly replica: string;
  readonly store: string;
  /** ms since the epoch. */
  readonly startedAt: number;
  readonly writtenAt: number;
  readonly engine: EngineStatus;
  /** Absent with custody: off. */
  readonly custody?: CustodyReport | undefined;
  readonly mirrors: readonly MirrorStatus[];
  readonly peers: readonly PeerReport[];
  /** Absent until it was looked for. */
  readonly neighbour?: NeighbourReport | undefined;
  /** Absent without a management key. */
  readonly management?: ManagementReport | undefined;
  /** Absent without a management key, or with `keys: no`. */
  readonly keys?: KeysReport | undefined;
  /** Absent without a management key, or with `usage: no`. */
  readonly usage?: UsageReport | undefined;
  /** Absent without a bot. */
  readonly telegram?: TelegramReport | undefined;
}

const FILE = 'status.json';
/** Bursts of changes become one write. */
const DELAY_MS = 200;

/** Keeps a report in the state directory: written when something changed, never when idle. */
export class StatusFile {
  readonly #path: string;
  readonly #report: () => DaemonReport;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<unknown> = Promise.resolve();

  constructor(stateDir: string, report: () => DaemonReport) {
    this.#path = join(stateDir, FILE);
    this.#report = report;
  }

  changed(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.write();
    }, DELAY_MS);
  }

  async write(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#writing = this.#writing
      .then(() => replaceFile(this.#path, `${JSON.stringify({ ...CURRENT_FORMAT, ...this.#report() })}\n`, { durable: false }))
      .catch(() => undefined);
    await this.#writing;
  }
}

export async function readReport(stateDir: string): Promise<DaemonReport | undefined> {
  let report: unknown;
  try {
    report = JSON.parse(await readFile(join(stateDir, FILE), 'utf8'));
  } catch {
    return undefined;
  }
  checkFormat(report, `the status file in ${stateDir}`);
  return report as DaemonReport;
}
