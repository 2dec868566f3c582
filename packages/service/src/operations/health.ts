import type { DaemonReport } from '../daemon/status-file.js';
import type { Alarm } from './alarms.js';

/** What a daemon that has no report yet is waiting for. */
export interface Starting {
  readonly waitsFor: string;
  /** ms since the epoch. */
  readonly since: number;
  readonly remedy: string;
}

export interface Health {
  /** The workspace can be served from: everything was in sync once, or as good as it gets without the authority. */
  readonly isReady: boolean;
  readonly state: 'starting' | 'ready' | 'degraded';
  /** Why it is not ready, or what is wrong although it is. */
  readonly reasons: readonly { readonly reason: string; readonly remedy: string }[];
}

/** `isDegradedStart`: the authority is out of reach since the start, and the workspace was filled from what there is. */
export function healthOf(
  report: DaemonReport | undefined,
  alarms: readonly Alarm[],
  { starting, isDegradedStart }: { readonly starting: Starting | undefined; readonly isDegradedStart: boolean },
): Health {
  const reasons = [
    ...(starting === undefined || alarms.length > 0 ? [] : [{ reason: starting.waitsFor, remedy: starting.remedy }]),
    ...alarms.map(({ message, remedy }) => ({ reason: message, remedy })),
  ];
  const hasSynced = report?.engine.lastSync !== undefined;
  const isReady = (hasSynced || isDegradedStart) && report?.engine.workspaceMissing !== true;
  return { isReady, state: !isReady ? 'starting' : reasons.length > 0 ? 'degraded' : 'ready', reasons };
}
